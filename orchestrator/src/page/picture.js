// Sites and the links between them, drawn from what everybody reaches.
import { shape, show, el } from "./dom.js";
import { isOld, sign } from "./words.js";

export const PLANES = [
  ["voters", "V", "Voters"],
  ["agents", "A", "Agents"],
  ["replication", "R", "Replication"],
  ["names", "N", "Names"],
];

const MOOD = { reached: "good", unknown: "unknown", "not-reached": "bad" };
const GAP = 56;
const RANK = ["good", "unknown", "bad"];

// What is known of one way: "good", "unknown", "bad", or undefined where nobody looks.
export function way(document, grown, plane, from, to) {
  const found = document.reach.find((way) => way.plane === plane && way.from === from && way.to === to);
  if (!found) return undefined;
  const limit = plane === "names" ? document.limits.follows_ms : document.limits.heard_ms;
  const old = found.seen === "reached" && isOld(found.age_ms, grown, limit);
  return { mood: old ? "unknown" : MOOD[found.seen], ...found };
}

function between(document, grown, plane, one, other) {
  const both = [way(document, grown, plane, one, other), way(document, grown, plane, other, one)];
  const moods = both.filter(Boolean).map((found) => found.mood);
  return moods.sort((a, b) => RANK.indexOf(b) - RANK.indexOf(a))[0];
}

// Who stands at a site, a line each: [mood, text, bold].
function residents(document, grown, site) {
  const { said, limits } = document;
  const lines = [];
  // What was said too long ago is what it was.
  const now = (words, old) => old ? { mood: "unknown", is: `was ${words.is}` } : words;
  for (const voter of document.status.voters.filter((voter) => voter.site === site)) {
    const words = now(said.voters[voter.id], (voter.age_ms ?? 0) + grown > limits.heard_ms);
    lines.push([words.mood, `voter, ${words.is}`, words.is === "leader"]);
  }
  for (const server of document.status.name_servers.filter((server) => server.site === site)) {
    const words = now(said.name_servers[server.server], isOld(server.asked_age_ms, grown, limits.heard_ms));
    lines.push([words.mood, `name server ${server.server}`]);
  }
  const here = [];
  for (const service of document.status.services) {
    for (const instance of service.instances.filter((instance) => instance.site === site)) {
      const old = isOld(instance.age_ms, grown, limits.heard_ms);
      here.push([service, instance, now(said.instances[instance.instance], old)]);
    }
  }
  const name = (service, instance) => instance.instance === service.primary;
  if (here.length <= 3) {
    for (const [service, instance, words] of here) {
      const primary = name(service, instance);
      lines.push([words.mood, `${instance.instance}: ${words.is}`, primary]);
    }
  } else {
    const primaries = here.filter(([service, instance]) => name(service, instance)).length;
    const amiss = here.filter(([, , words]) => words.mood !== "good");
    const worst = ["bad", "unknown", "odd"].find((mood) => amiss.some(([, , words]) => words.mood === mood)) ?? "good";
    lines.push([worst, `${here.length} instances, ${primaries} primary`, primaries > 0]);
    if (amiss.length) lines.push([worst, `${amiss.length} not as they should be`]);
  }
  return lines;
}

// Where the middle of each box is: round an ellipse, the first at the top; on a phone one below the
// other, left and right, so that there is room for the links.
function places(count, width, height, box, narrow) {
  if (narrow) {
    return Array.from({ length: count }, (_, n) => [
      n % 2 === 0 ? box.width / 2 + 2 : width - box.width / 2 - 2,
      box.height / 2 + 2 + n * (box.height + GAP)]);
  }
  if (count === 1) return [[width / 2, height / 2]];
  if (count === 3) {
    return [[width / 2, box.height / 2 + 4], [width - box.width / 2 - 4, height - box.height / 2 - 4],
      [box.width / 2 + 4, height - box.height / 2 - 4]];
  }
  const [rx, ry] = [(width - box.width) / 2 - 4, (height - box.height) / 2 - 4];
  return Array.from({ length: count }, (_, n) => {
    const angle = (2 * Math.PI * n) / count - Math.PI / 2;
    return [width / 2 + rx * Math.cos(angle), height / 2 + ry * Math.sin(angle)];
  });
}

function fit(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function siteBox(document, grown, site, [x, y], box) {
  const declared = document.status.sites[site];
  const about = [declared.jurisdiction, box.narrow ? "" : declared.operator].filter(Boolean).join(" · ");
  const left = x - box.width / 2;
  const top = y - box.height / 2;
  const lines = residents(document, grown, site);
  const primary = document.status.services.some((service) =>
    service.instances.some((instance) => instance.site === site && instance.instance === service.primary));
  return shape("g", { class: primary ? "site primary" : "site" },
    shape("rect", { x: left, y: top, width: box.width, height: box.height, rx: 10 }),
    shape("text", { x: left + 12, y: top + 24, class: "name" }, fit(site, box.most - 4)),
    shape("text", { x: left + box.width - 12, y: top + 24, class: "about", "text-anchor": "end" }, fit(about, 16)),
    lines.map(([mood, text, bold], n) => [
      shape("text", { x: left + 12, y: top + 48 + n * 20, class: `sign ${mood}` }, sign(mood)),
      shape("text", { x: left + 30, y: top + 48 + n * 20, class: bold ? "strong" : "" }, fit(text, box.most)),
    ]),
  );
}

function link(document, grown, each, [one, a], [other, b]) {
  const seen = PLANES.map(([plane, letter]) => [letter, between(document, grown, plane, one, other)]).filter(([, mood]) => mood);
  const worst = seen.map(([, mood]) => mood).sort((x, y) => RANK.indexOf(y) - RANK.indexOf(x))[0];
  const [x, y] = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  const width = seen.length * each + 10;
  return {
    line: shape("line", { x1: a[0], y1: a[1], x2: b[0], y2: b[1], class: `link ${worst ?? "none"}` }),
    pill: seen.length === 0 ? null : shape("g", { class: "pill" },
      shape("rect", { x: x - width / 2, y: y - 13, width, height: 26, rx: 13 }),
      seen.map(([letter, mood], n) => shape("text", {
        x: x - width / 2 + 5 + each / 2 + n * each, y: y + 5, "text-anchor": "middle", class: `sign ${mood}`,
      }, `${letter}${each > 30 ? " " : ""}${sign(mood)}`)),
    ),
  };
}

export function picture(document, grown) {
  const svg = window.document.getElementById("picture");
  const narrow = svg.clientWidth > 0 && svg.clientWidth < 620;
  const sites = Object.keys(document.status.sites);
  const most = Math.max(2, ...sites.map((site) => residents(document, grown, site).length));
  const box = { width: narrow ? 190 : 230, height: 44 + most * 20, most: narrow ? 23 : 27, narrow };
  const width = narrow ? 360 : 900;
  const height = narrow ? sites.length * (box.height + GAP) - GAP + 4 : box.height * 2 + 90;
  svg.setAttribute("viewBox", `0 0 ${width} ${sites.length === 0 ? 1 : height}`);
  const at = places(sites.length, width, height, box, narrow);
  const ends = sites.map((site, n) => [site, at[n]]);
  const pairs = ends.flatMap((one, n) => ends.slice(n + 1).map((other) => link(document, grown, narrow ? 25 : 34, one, other)));
  show(svg,
    pairs.map((pair) => pair.line),
    ends.map(([site, place]) => siteBox(document, grown, site, place, box)),
    pairs.map((pair) => pair.pill),
  );
  show(window.document.getElementById("picture-words"), inWords(document, grown, sites));
  show(window.document.getElementById("legend"), el("p", { class: "legend" },
    PLANES.map(([, letter, name]) => el("span", {}, el("b", {}, letter), ` ${name.toLowerCase()}`)),
    ["good reached", "unknown not known", "bad not reached"].map((entry) => {
      const [mood, ...words] = entry.split(" ");
      return el("span", {}, el("span", { class: `mood ${mood}` }, sign(mood)), ` ${words.join(" ")}`);
    }),
  ));
}

function inWords(document, grown, sites) {
  const at = sites.map((site) => `${site}: ${residents(document, grown, site).map(([, text]) => text).join(", ")}.`);
  const bad = document.reach.filter((found) => way(document, grown, found.plane, found.from, found.to).mood === "bad")
    .map((found) => `On the plane of ${found.plane}, ${found.from} does not reach ${found.to}.`);
  return [...at, ...bad].join(" ") || "No site is declared.";
}
