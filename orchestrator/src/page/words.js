// Numbers and times as people say them, and marks that do not rest on colour.
import { el } from "./dom.js";

const MARKS = { good: "✓", plain: "·", odd: "▲", bad: "✕", unknown: "?" };

// A mark and what it stands for.
export function mark(mood, text) {
  return el("span", { class: `mood ${mood}` }, el("span", { "aria-hidden": "true" }, MARKS[mood]), " ", text);
}

// The same of something that may be too old to be known.
export function aged(mood, text, old) {
  return old ? mark("unknown", `unknown (was: ${text})`) : mark(mood, text);
}

export function sign(mood) {
  return MARKS[mood];
}

// A length of time.
export function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.floor(ms / 1000) % 60} s`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h ${Math.floor(ms / 60_000) % 60} min`;
  return `${Math.floor(ms / 86_400_000)} d ${Math.floor(ms / 3_600_000) % 24} h`;
}

// An age as it is now: a datum that was never told has none.
export function age(ms, grown, limit) {
  if (ms === null || ms === undefined) return el("span", { class: "old" }, "never told");
  const now = ms + grown;
  return el("span", { class: now > limit ? "old" : "age" }, now > limit ? `${span(now)}: too old` : span(now));
}

export function isOld(ms, grown, limit) {
  return ms === null || ms === undefined || ms + grown > limit;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1_048_576) return `${Math.floor(count / 1024)} kB`;
  if (count < 1_073_741_824) return `${Math.floor(count / 1_048_576)} MB`;
  return `${Math.floor(count / 1_073_741_824)} GB`;
}

// A wall-clock time of a voter, in UTC as everywhere in baton.
export function time(ms) {
  const at = new Date(ms);
  const text = at.toISOString().replace("T", " ").replace("Z", "");
  return el("time", { datetime: at.toISOString() }, text.slice(0, 19), el("span", { class: "faint" }, text.slice(19), "Z"));
}

export function list(names) {
  return names.length === 0 ? "nobody" : names.join(", ");
}
