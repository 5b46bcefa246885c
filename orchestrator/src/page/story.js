// What goes on and what went on: open changes of primary step by step, and the past.
import { el } from "./dom.js";
import { table } from "./tables.js";
import { list, mark, span, time } from "./words.js";

const STEPS = ["quiesce", "catch-up", "seal", "promote", "prove", "redirect", "verify"];

const MEANING = {
  quiesce: "the primary writes a checkpoint",
  "catch-up": "it turns clients away, and stops once all is at the candidate",
  seal: "standbys stop receiving from the old primary, for good",
  promote: "the chosen instance becomes writable",
  prove: "it commits under the new rule",
  redirect: "name servers take up the new zone",
  verify: "they are asked, and a commit is proven",
};

// Between two steps: one voter's monotonic clock where both are of it, wall clocks otherwise.
function from(first, step) {
  return step.voter === first.voter ? (step.monotonic_us - first.monotonic_us) / 1000 : step.at - first.at;
}

// The changes of primary that are under way.
export function open(document, grown) {
  const under = document.status.services.filter((service) => service.transition);
  const drill = document.status.drill;
  return [
    ...under.map((service) => {
      const record = document.transitions.find((record) => record.id === service.transition.id);
      return transition(document, service, record, grown);
    }),
    drill ? el("p", { class: "note" }, mark("odd", `Drill ${drill.drill} (${drill.kind}) of ${drill.service} is at ${drill.stage}${drill.given_up ? ", given up" : ""}.`)) : null,
  ];
}

function transition(document, service, record, grown) {
  const { id, step, trigger } = service.transition;
  return el("article", { class: "card open", "data-key": `${service.service}-${id}` },
    el("h2", {}, `${service.service} changes its primary `, el("span", { class: "faint" }, `transition ${id}, ${trigger}`)),
    el("p", {}, `From ${service.transition.from ?? "nobody"} to ${record?.to ?? service.transition.target ?? "whoever is fit"}. `, record?.cause ?? ""),
    timeline(record, step, document.status.at + grown),
    why(service),
  );
}

function why(service) {
  if (service.findings.length === 0) return null;
  return el("ul", { class: "plain" }, service.findings.slice(0, 4).map((finding) =>
    el("li", {}, mark(finding.severity === "blocks" ? "bad" : finding.severity === "warning" ? "odd" : "plain", finding.text))));
}

// `current`: the step that it stands at; none once it is over.
export function timeline(record, current, now) {
  const left = record ? record.steps : [];
  const first = left[0];
  const done = new Map(left.slice(1).map((step) => [step.name, step]));
  const planned = ["switchover"].includes(record?.trigger) || done.has("quiesce") || current === "quiesce" || current === "catch-up";
  const steps = STEPS.slice(planned ? 0 : 2);
  return el("ol", { class: "timeline", "aria-label": "Steps" }, steps.map((name) => {
    const step = done.get(name);
    const state = step ? "done" : name === current ? "current" : "ahead";
    const told = step ? `done at +${span(from(first, step))}`
      : name === current ? `under way${first ? `, +${span(Math.max(0, now - first.at))}` : ""}`
      : current ? "still to come" : "not reached";
    return el("li", { class: state, "aria-current": state === "current" ? "step" : false, title: MEANING[name] },
      el("b", {}, name), el("span", {}, told));
  }));
}

export function past(document) {
  const records = [...document.transitions].reverse();
  const drills = [...document.drills].reverse();
  const history = [...document.history].reverse();
  return [
    records.length === 0 ? el("p", { class: "note" }, "No primary has changed yet.")
      : table("Changes of primary, newest first", ["Nr.", "Began", "Service", "What", "From", "To", "Took", "Outcome"],
        records.map((record) => line(document, record))),
    drills.length === 0 ? el("p", { class: "note" }, "No drill was held yet.")
      : table("Drills, newest first", ["Nr.", "Kind", "Service", "By", "Outcome"], drills.map((drill) => {
        const words = document.said.drills[drill.id];
        return [drill.id, drill.kind, drill.service, drill.by, mark(words.mood, words.is)];
      })),
    el("details", {}, el("summary", {}, `History: the newest ${history.length} entries`),
      table("History, newest first", ["Revision", "When", "By", "About", "What"], history.map((entry) =>
        [entry.revision, time(entry.at), entry.by, entry.service ?? "the cluster", entry.text]), { class: "history" })),
  ];
}

function line(document, record) {
  const words = document.said.transitions[record.id];
  const [first, last] = [record.steps[0], record.steps.at(-1)];
  return [record.id, first ? time(first.at) : "–", record.service, `${record.trigger}, by ${record.by}`,
    record.from ?? "–", record.to ?? "–", first && last ? span(from(first, last)) : "–", mark(words.mood, words.is)];
}

// What a screen reader is told when it changes.
export function news(document) {
  const steps = document.status.services.filter((service) => service.transition)
    .map((service) => `${service.service} is at ${service.transition.step}.`);
  return [verdict(document).text, ...steps].join(" ");
}

export function verdict(document, grown = 0) {
  if (grown > document.limits.heard_ms) {
    return { mood: "unknown", text: `NOT KNOWN: ${span(grown)} ago it was: ${verdict(document).text}` };
  }
  const { remarks } = document;
  if (remarks.length === 0) return { mood: "good", text: "All is well" };
  const many = remarks.length === 1 ? "" : "s";
  if (remarks.some((remark) => remark.mood === "bad")) return { mood: "bad", text: `NOT WELL: ${remarks.length} problem${many}` };
  return { mood: "odd", text: `Works, with ${remarks.length} remark${many}` };
}

export function remarks(document) {
  if (document.remarks.length === 0) return null;
  return el("ul", { class: "remarks" }, document.remarks.map((remark) => el("li", { class: remark.mood }, mark(remark.mood, remark.text))));
}

export function foot(document) {
  const status = document.status;
  return el("p", {}, `Revision ${status.revision} · topology ${status.topology_version} · zone ${status.zone_version} · term ${status.term} · `,
    `sites ${list(Object.keys(status.sites))} · times are UTC, of the voter that tells · this page changes nothing: baton does.`);
}
