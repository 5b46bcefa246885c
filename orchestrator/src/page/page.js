// Draws the page from the newest document, once a second and whenever something came.
import { el, show } from "./dom.js";
import { follow } from "./feed.js";
import { picture } from "./picture.js";
import { foot, news, open, past, remarks, verdict } from "./story.js";
import { availability, matrix, nameServers, readiness, services, voters } from "./tables.js";
import { mark, span } from "./words.js";

const place = (id) => document.getElementById(id);
let announced = "";

function heading(known, grown) {
  const { status, shown_by, evidence } = known;
  const told = verdict(known, grown);
  const leader = status.leader ? `leader ${status.leader.name}` : "NO LEADER is known";
  const late = evidence ? evidence.age_ms + grown : null;
  const old = late === null || late > known.limits.heard_ms;
  const whose = !evidence ? "nothing is known of what agents measure"
    : evidence.from.voter === shown_by.voter ? "which measures itself"
    : `evidence of ${evidence.from.name}, ${span(late)} old`;
  return [
    el("p", { class: `verdict ${told.mood}` }, mark(told.mood, told.text)),
    el("p", { class: "source" }, el("span", { class: status.leader ? "" : "bad" }, leader),
      " · shown by voter ", shown_by.name, " · ", el("span", { class: old ? "old" : "" }, whose),
      " · document ", span(grown), " old"),
  ];
}

function lost(feed) {
  if (feed.link !== "lost") return null;
  const ms = performance.now() - feed.since;
  const at = new Date(Date.now() - ms).toISOString().slice(11, 19);
  return el("p", {}, el("strong", {}, "✕ Connection to this voter lost "), `since ${at}Z, for ${span(ms)}. `,
    feed.document ? "What is shown is what was known then: look at another voter, or baton watch." : "Nothing was heard yet.");
}

function draw(feed) {
  document.body.dataset.link = feed.link;
  show(place("lost"), lost(feed));
  const known = feed.document;
  if (!known) return;
  const grown = feed.grown();
  const mood = feed.link === "lost" ? "✕" : { good: "✓", odd: "▲", bad: "✕" }[verdict(known).mood];
  const name = known.status.cluster || "(no topology applied)";
  document.title = `${mood} ${name} · baton`;
  show(place("cluster"), name);
  show(place("verdict"), heading(known, grown));
  show(place("remarks"), remarks(known));
  show(place("open"), open(known, grown));
  picture(known, grown);
  show(place("service-list"), services(known, grown));
  show(place("readiness-table"), readiness(known, grown));
  show(place("sla-tables"), availability(known, grown));
  show(place("matrix"), matrix(known, grown));
  show(place("name-tables"), voters(known, grown), nameServers(known, grown));
  show(place("past-tables"), past(known));
  show(place("foot"), foot(known));
  const said = news(known);
  if (said !== announced && feed.link === "live") {
    announced = said;
    show(place("news"), said);
  }
}

const feed = follow(draw);
setInterval(() => {
  feed.check();
  draw(feed);
}, 1000);
