// Elements are made fresh at every turn and the page is changed into them, so that focus, selection
// and a screen reader's place stay where they are. Text is only ever text.

// An element: its attributes (`class`, `data-…`; undefined and false are left out) and children.
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// The name space is the one of the picture that is on the page already.
export function shape(tag, attributes = {}, ...children) {
  const space = document.getElementById("picture").namespaceURI;
  return fill(document.createElementNS(space, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

// Makes the children of `parent` what `fresh` are.
export function show(parent, ...fresh) {
  const holder = fill(parent.cloneNode(false), {}, fresh);
  children(parent, holder);
}

function children(old, fresh) {
  const wanted = [...fresh.childNodes];
  const there = [...old.childNodes];
  wanted.forEach((child, place) => {
    if (place < there.length) change(there[place], child);
    else old.append(child);
  });
  there.slice(wanted.length).forEach((child) => child.remove());
}

function change(old, fresh) {
  const same = old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName
    && old.dataset?.key === fresh.dataset?.key;
  if (!same) {
    old.replaceWith(fresh);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else {
    attributes(old, fresh);
    children(old, fresh);
  }
}

function attributes(old, fresh) {
  for (const { name, value } of [...fresh.attributes]) {
    // Whether something is folded is the reader's choice, once it is there.
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
}
