"use strict";
// The log of a run: following, search and errors by keys, links to lines. The page can be read without it.
(() => {
  const by = id => document.getElementById(id), one = (css, from = document) => from.querySelector(css);
  const all = (css, from = document) => [...from.querySelectorAll(css)];
  const log = by("lines"), tools = by("log-tools"), MOST = 5000;
  let last = +log.dataset.last, follows = "follow" in log.dataset, unseen = 0, here = 0;

  const localise = from => all("time[data-at]", from).forEach(t => {
    const at = new Date(t.dataset.at);
    t.textContent = at.toTimeString().slice(0, 8) + "." + String(at.getMilliseconds()).padStart(3, "0");
  });
  const copy = text => navigator.clipboard && navigator.clipboard.writeText(text);

  // -- following
  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 30;
  const toEnd = () => { log.scrollTop = log.scrollHeight; };
  const button = (word, then) => {
    const b = document.createElement("button");
    b.type = "button"; b.className = "btn quiet"; b.textContent = word; b.onclick = then;
    return b;
  };
  const show = () => {
    const goes = "follow" in log.dataset, words = [];
    by("following").hidden = !(goes && follows);
    if (here) words.push(button("Copy link to line " + here, () => copy(location.href.split("#")[0] + "#L" + here)));
    if (goes && !follows) words.push(button(unseen ? unseen + (unseen === 1 ? " new line below" : " new lines below") : "Follow", follow));
    if (!goes && !atEnd()) words.push(button("To the end", toEnd));
    tools.replaceChildren(...words);
  };
  const follow = () => { follows = true; unseen = 0; toEnd(); log.setAttribute("aria-live", "polite"); show(); };
  const stop = () => { follows = false; log.setAttribute("aria-live", "off"); show(); };
  log.addEventListener("scroll", () => {
    const end = atEnd();
    if (!("follow" in log.dataset)) show();
    else if (end && !follows) { follows = true; unseen = 0; show(); }
    else if (!end && follows) stop();
  });
  document.addEventListener("lines", e => {
    const made = document.createElement("template"), before = log.scrollHeight;
    made.innerHTML = e.detail.html;
    localise(made.content);
    const count = made.content.querySelectorAll(".r").length;
    by("so-far").before(made.content);
    last = e.detail.last;
    const rows = all(":scope > .r, :scope > details, :scope > .skip-row", log);
    if (rows.length > MOST) {
      rows.slice(0, rows.length - MOST).forEach(r => r.remove());
      const p = document.createElement("p");
      p.className = "skip-row"; p.textContent = "Earlier lines have left this page: reload it, or see the plain text.";
      log.prepend(p);
      if (!follows) log.scrollTop -= before - log.scrollHeight;
    }
    if (follows) toEnd(); else { unseen += count; show(); }
  });

  // -- the line that one looks at
  const go = number => {
    const row = by("L" + number), fold = row && row.closest("details");
    if (!row) return false;
    all(".here", log).forEach(r => r.classList.remove("here"));
    if (fold) fold.open = true;
    row.classList.add("here");
    here = number;
    if (follows && number !== last) stop();
    row.scrollIntoView({ block: "center" });
    show();
    return true;
  };
  const hash = () => {
    const named = /^#L(\d+)$/.exec(location.hash);
    if (!named || go(+named[1])) return Boolean(named);
    const address = new URL(location);
    if (+named[1] > last || address.searchParams.get("line") === named[1]) return false;
    address.searchParams.set("line", named[1]);
    location.replace(address);
    return true;
  };
  addEventListener("hashchange", hash);
  const step = (css, way) => {
    const rows = all(css, log), number = r => +r.id.slice(1);
    const next = way > 0 ? rows.find(r => number(r) > here) || rows[0] : rows.reverse().find(r => number(r) < here || !here) || rows[0];
    if (next) go(number(next));
  };
  // What was found may be in lines that are not shown: beyond a gap the server finds the next one.
  const count = one(".logbar .count[data-place]");
  let place = count ? +count.dataset.place : 0;
  const found = way => {
    if (!count) return;
    const rows = all(".r[id]:has(mark)", log), at = rows.indexOf(by("L" + here)), next = at < 0 ? null : rows[at + way];
    const isBetween = p => (rows[at].compareDocumentPosition(p) & 4) !== (next.compareDocumentPosition(p) & 4);
    if (next && !all(".skip-row", log).some(isBetween)) {
      place += way;
      count.textContent = place.toLocaleString("en") + " of " + (+count.dataset.count).toLocaleString("en");
      go(+next.id.slice(1));
      return;
    }
    if (!here || here === +count.dataset.line) { one(".logbar a[rel=" + (way > 0 ? "next" : "prev") + "]").click(); return; }
    const address = new URL(location);
    address.searchParams.set("line", here);
    address.hash = "L" + here;
    location = address;
  };

  // -- keys, before those of all pages
  const level = () => { const links = all(".logbar .seg a"), at = links.findIndex(a => a.getAttribute("aria-current")); location = links[(at + 1) % links.length].href; };
  const keys = {
    "/": () => { const field = one(".logbar input[type=search]"); field.focus(); field.select(); },
    f: () => (follows ? stop() : follow()), n: () => found(1), N: () => found(-1), e: () => step(".r.e[id]", 1), E: () => step(".r.e[id]", -1),
    v: level, w: () => log.classList.toggle("nowrap"), y: () => (here ? copy(location.href.split("#")[0] + "#L" + here) : copy(by("run-id").textContent)),
    1: () => by("log").scrollIntoView(), 2: () => by("story").scrollIntoView(), 3: () => by("curve").scrollIntoView(), 4: () => by("processes").scrollIntoView(),
  };
  document.addEventListener("keydown", e => {
    if (e.ctrlKey || e.metaKey || e.altKey || one("dialog[open]") || e.target.matches("input, textarea, select")) return;
    let off = false;
    try { off = localStorage.getItem("flowherd-keys") === "off"; } catch { /* not kept */ }
    if (off || !keys[e.key]) return;
    e.preventDefault();
    e.stopPropagation();
    keys[e.key]();
  }, true);
  all("[data-copy]").forEach(b => { b.hidden = false; b.onclick = () => { copy(by(b.dataset.copy).textContent); b.textContent = "Copied"; }; });
  one(".logbar select").addEventListener("change", e => e.target.form.requestSubmit());

  localise(log);
  if (!hash()) { const marked = one(".here[id]", log); if (marked) go(+marked.id.slice(1)); else toEnd(); }
  show();
})();
