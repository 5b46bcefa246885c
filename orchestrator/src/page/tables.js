// Services, who reaches whom, voters and name servers, as tables.
import { el } from "./dom.js";
import { PLANES, way } from "./picture.js";
import { age, aged, bytes, isOld, list, mark, sign, time } from "./words.js";

// A table that a phone shows as cards: every cell says under which heading it stands.
export function table(caption, headings, rows, attributes = {}) {
  return el("div", { class: "scroll" }, el("table", attributes,
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, headings.map((heading) => el("th", { scope: "col" }, heading)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, n) => n === 0
      ? el("th", { scope: "row", "data-label": headings[n] }, cell)
      : el("td", { "data-label": headings[n] }, cell))))),
  ));
}

// With more than these the ones that are well are folded, below those that are not.
const UNFOLDED = 4;
const FIRST = ["bad", "odd", "plain", "good"];

export function services(document, grown) {
  const all = document.status.services;
  if (all.length === 0) return [el("p", { class: "note" }, "No service is declared: baton apply.")];
  if (all.length <= UNFOLDED) return all.map((service) => one(document, grown, service, false));
  const rank = ({ service }) => FIRST.indexOf(document.said.services[service].mood);
  const order = (a, b) => rank(a) - rank(b) || a.service.localeCompare(b.service, "en", { numeric: true });
  return [...all].sort(order).map((service) => one(document, grown, service, true));
}

function one(document, grown, service, folds) {
  const old = grown > document.limits.heard_ms;
  const said = document.said.services[service.service];
  const words = old ? { mood: "unknown", is: `unknown (was: ${said.is})`, wanted: "unknown" } : said;
  const rule = service.rule;
  const fact = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, ...value));
  const promised = words.wanted ?? "unknown";
  const zero = promised === "yes" ? "good" : promised.startsWith("NO") ? "bad" : "unknown";
  const heading = el("h3", {}, service.service, " ", mark(words.mood, words.is));
  const well = said.mood === "good";
  return el(folds ? "details" : "article",
    { class: "card", "data-key": `${service.service} ${well}`, open: folds && !well },
    folds ? el("summary", {}, heading, el("span", { class: "faint" },
      ` primary ${service.primary ?? "none"} · ${service.published ? `${service.writable} → ${service.published.instance}` : "nowhere in DNS"}`))
      : heading,
    el("dl", { class: "facts" },
      fact("Primary", service.primary ?? "none"),
      fact("Epoch", service.epoch),
      fact("Rule", `${rule.required} of ${list(rule.instances)}`, el("span", { class: "faint" }, ` · generation ${rule.generation}`)),
      fact("Zero loss", mark(zero, promised)),
      fact("Loss of its site", old ? mark("unknown", "unknown") : service.is_site_safe ? mark("good", "survived") : mark("bad", "NOT safe")),
      fact("In DNS", service.published ? `${service.writable} → ${service.published.instance}` : "nowhere yet"),
      fact("Lease given", age(service.lease_age_ms, grown, document.limits.heard_ms), " ago"),
      service.hold ? fact("Hold", mark("odd", `by ${service.hold.by}: ${service.hold.reason}`)) : null,
    ),
    table(`Instances of ${service.service}`,
      ["Instance", "Site", "Is", "Is to be", "Lag", "Streams", "In the rule", "Clients", "Position", "Told"],
      service.instances.map((instance) => row(document, grown, service, instance)), { class: "instances" }),
  );
}

function row(document, grown, service, instance) {
  const words = document.said.instances[instance.instance];
  const old = isOld(instance.age_ms, grown, document.limits.heard_ms);
  const grey = (text) => el("span", { class: "old" }, text);
  const yes = (known) => old ? grey("unknown") : known === null ? "–" : known ? "yes" : "no";
  const primary = instance.instance === service.primary;
  const lag = old ? grey("unknown")
    : instance.lag_bytes !== null && !primary ? bytes(instance.lag_bytes)
    : primary ? "–" : grey("unknown");
  const position = instance.position ? `${instance.position.timeline}/${instance.position.lsn}` : "unknown";
  return [
    primary ? el("strong", {}, instance.instance) : instance.instance,
    instance.site,
    old ? mark("unknown", instance.reported ? `unknown (was ${words.is})` : "unknown") : mark(words.mood, words.is),
    words.wanted,
    lag,
    yes(instance.streaming),
    instance.in_rule ? "counts" : "–",
    yes(instance.admits),
    old ? grey(position) : position,
    age(instance.age_ms, grown, document.limits.heard_ms),
  ];
}

// Could each site be lost: what the leader last answered, and nothing once that is too old.
export function readiness(document, grown) {
  const { readiness: all, readiness_age_ms: told, limits } = document;
  if (all.length === 0) return el("p", { class: "note" }, "Not known: no leader has answered yet, or no service is declared.");
  const old = isOld(told, grown, limits.readiness_ms);
  const marked = (words) => aged(words.mood, words.is, old);
  const why = (remarks) => remarks?.length
    ? el("ul", { class: "plain" }, remarks.slice(0, 4).map((text) => el("li", {}, text)),
      remarks.length > 4 ? el("li", {}, `and ${remarks.length - 4} more: baton readiness`) : null)
    : "–";
  return [
    table("Each service without each site", ["Service", "Without", "Ready", "Then", "Zero loss", "Writes stand still", "What was found"],
      all.map((one) => [one.service, one.site, marked(one.ready), one.then, marked(one.zero_loss), one.takes, why(one.ready.remarks)])),
    el("p", { class: "note" }, "Looked at ", age(told, grown, limits.readiness_ms), " ago."),
  ];
}

export function matrix(document, grown) {
  const sites = Object.keys(document.status.sites);
  if (sites.length === 0) return [];
  return PLANES.map(([plane, , name]) => el("div", { class: "scroll" }, el("table", { class: "matrix" },
    el("caption", {}, name),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "from \\ to"),
      sites.map((site) => el("th", { scope: "col" }, site)))),
    el("tbody", {}, sites.map((from) => el("tr", {}, el("th", { scope: "row" }, from),
      sites.map((to) => cell(way(document, grown, plane, from, to), grown))))),
  )));
}

const SEEN = { good: "reached", unknown: "not known", bad: "NOT reached" };

function cell(found, grown) {
  if (!found) return el("td", { class: "none" }, el("span", { class: "unseen" }, "nobody looks"), el("span", { "aria-hidden": "true" }, "·"));
  const at = found.age_ms === null ? "" : ` ${short(found.age_ms + grown)}`;
  return el("td", { class: found.mood, title: found.why.join("; ") },
    el("span", { "aria-hidden": "true" }, sign(found.mood)),
    el("span", { class: "unseen" }, SEEN[found.mood]),
    el("span", { class: "age" }, at));
}

function short(ms) {
  return ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : ms < 600_000 ? `${Math.round(ms / 1000)} s` : `${Math.round(ms / 60_000)} min`;
}

export function voters(document, grown) {
  const status = document.status;
  return table("Voters", ["Voter", "Site", "State", "Behind", "Heard"], status.voters.map((voter) => {
    const said = document.said.voters[voter.id];
    const words = (voter.age_ms ?? 0) + grown > document.limits.heard_ms ? { mood: "unknown", is: `unknown (was ${said.is})` } : said;
    const itself = voter.state === "leader" && voter.age_ms === null;
    return [voter.name, voter.site ?? "–", mark(words.mood, words.is),
      voter.lag_entries === null ? "–" : `${voter.lag_entries} entries`,
      itself ? (grown > document.limits.heard_ms ? age(0, grown, document.limits.heard_ms) : "itself") : age(voter.age_ms, grown, document.limits.heard_ms)];
  }));
}

export function nameServers(document, grown) {
  const status = document.status;
  return table("Name servers", ["Server", "Site", "State", "Answered", "Follows", "Told"], status.name_servers.map((server) => {
    const words = document.said.name_servers[server.server];
    const old = isOld(server.asked_age_ms, grown, document.limits.heard_ms);
    return [server.server, server.site, old ? mark("unknown", "not known") : mark(words.mood, words.is),
      age(server.asked_age_ms, grown, document.limits.heard_ms),
      server.follows === null ? "unknown" : `version ${server.follows}`,
      age(server.follows_age_ms, grown, document.limits.follows_ms)];
  }));
}

// How much of the promised time each service was there, from the journals beside this voter.
export function availability(document, grown) {
  const { sla, sla_age_ms: told, limits } = document;
  const note = (...text) => el("p", { class: "note" }, ...text);
  if (!sla) return note("Not known here: this voter reads no journal of a probe writer ([sla] in its file), or has not read it yet. baton sla tells it anywhere.");
  const old = isOld(told, grown, limits.sla_ms);
  const periods = sla.services.flatMap((one) => one.rows.map((row) => [
    one.service, row.period, aged(row.mood, row.kept, old), row.available, row.left, row.down, row.planned,
    row.thin ? mark("odd", row.coverage) : row.coverage, row.promised,
  ]));
  const gaps = sla.services.flatMap((one) => one.interruptions.map((gap) =>
    [one.service, time(gap.at), gap.length, gap.counted, gap.cause]));
  return [
    sla.problem ? el("p", {}, mark("bad", sla.problem)) : null,
    periods.length > 0 ? table("This month and this year, in service hours",
      ["Service", "Period", "Objective", "Available", "Budget left", "Down", "Of it planned", "Measured", "Service time"], periods)
      : note("No journal speaks of a service that is declared."),
    gaps.length > 0 ? table("The newest interruptions", ["Service", "Began", "Length", "In service hours", "Cause"], gaps) : null,
    ...sla.services.map((one) => note(`${one.service}: ${one.promise}; `,
      one.heard === null ? "no writer ever wrote" : ["a writer's last word: ", time(one.heard)],
      one.all > one.interruptions.length ? `; ${one.all} interruptions this year: baton sla` : "",
      one.warnings.length > 0 ? `; ${one.warnings.slice(0, 3).join("; ")}` : "")),
    note("Worked out ", age(told, grown, limits.sla_ms), " ago."),
  ];
}
