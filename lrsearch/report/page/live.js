// A page that is served asks its server for what is new, and changes what has changed.

const live = {
  etag: null,
  lost: null,

  start(about, apply) {
    const said = document.getElementById("live");
    const say = (text) => { if (said.textContent !== text) said.textContent = text; };
    const clock = () => new Date().toLocaleTimeString();
    const ask = async () => {
      if (document.hidden) return;
      try {
        const headers = live.etag ? { "If-None-Match": live.etag } : {};
        const answer = await fetch(about.url, { headers, cache: "no-store", signal: AbortSignal.timeout(20000) });
        if (answer.status === 200) {
          live.etag = answer.headers.get("ETag");
          apply(await answer.json());
          say(`Live. Last change seen at ${clock()}.`);
        } else if (answer.status !== 304) throw new Error(`status ${answer.status}`);
        else if (live.lost) say(`Live again since ${clock()}; nothing new.`);
        live.lost = null;
        said.classList.remove("lost");
      } catch {
        live.lost ||= clock();
        said.classList.add("lost");
        say(`Connection lost at ${live.lost}; it is tried again every ${about.seconds} s.`);
      }
    };
    const again = () => setTimeout(() => ask().finally(again), 1000 * about.seconds);
    again();
    document.addEventListener("visibilitychange", ask);
  },
};
