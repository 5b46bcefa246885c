// The document, kept up to date by server-sent events, and how old it is.

const AGAIN_MS = 3000;
// The voter tells at least once a second what is measured.
const SILENT_MS = 4000;

// Calls `changed` whenever something came or the connection changed.
export function follow(changed) {
  const feed = {
    document: null,
    // "waiting", "live" or "lost"
    link: "waiting",
    // When the newest part came, and since when the connection is lost: performance.now().
    came: performance.now(),
    since: performance.now(),
    // Milliseconds that ages have grown by since then.
    grown: () => performance.now() - feed.came,
    check: () => {
      if (feed.link === "live" && feed.grown() > SILENT_MS) lose(feed.came);
    },
  };

  function lose(since) {
    if (feed.link !== "lost") {
      feed.since = since;
      feed.link = "lost";
    }
    changed(feed);
  }

  function connect() {
    const source = new EventSource("v1/events");
    // It connects and says nothing yet: that is no news.
    source.onmessage = (event) => {
      // The first event of a connection is the whole document; later ones are the parts that differ.
      feed.document = Object.assign(feed.document ?? {}, JSON.parse(event.data));
      feed.came = performance.now();
      feed.link = "live";
      changed(feed);
    };
    source.onerror = () => {
      lose(feed.link === "waiting" ? feed.since : performance.now());
      if (source.readyState === EventSource.CLOSED) {
        source.close();
        setTimeout(connect, AGAIN_MS);
      }
    };
  }

  connect();
  return feed;
}
