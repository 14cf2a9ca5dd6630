"use strict";
// Live parts, local times, dialogs, keys, theme. Every page can be read and used without it.
(() => {
  const root = document.documentElement, by = id => document.getElementById(id);
  const one = (css, from = document) => from.querySelector(css), all = (css, from = document) => [...from.querySelectorAll(css)];
  const kept = { get: k => { try { return localStorage.getItem("flowherd-" + k); } catch { return null; } },
    set: (k, v) => { try { localStorage.setItem("flowherd-" + k, v); } catch { /* not kept */ } } };

  // -- theme: before the page is drawn
  const themes = ["", "light", "dark"];
  const paint = theme => { if (theme) root.dataset.theme = theme; else delete root.dataset.theme; };
  paint(kept.get("theme"));
  const named = () => { by("theme").textContent = "Light or dark: " + (kept.get("theme") || "as the system"); };
  const nextTheme = () => { kept.set("theme", themes[(themes.indexOf(kept.get("theme") || "") + 1) % 3]); paint(kept.get("theme")); named(); };

  // -- times in the reader's zone, and lengths of time that go on
  let ahead = 0; // of the server's clock, ms
  const two = n => String(n).padStart(2, "0");
  const clock = (at, seconds) => {
    const now = new Date(), hour = two(at.getHours()) + ":" + two(at.getMinutes()) + (seconds ? ":" + two(at.getSeconds()) : "") + (seconds > 1 ? "." + String(at.getMilliseconds()).padStart(3, "0") : "");
    if (at.toDateString() === now.toDateString()) return hour;
    const word = o => at.toLocaleDateString("en", o);
    if (Math.abs(at - now) < 6048e5) return word({ weekday: "short" }) + " " + hour;
    return at.getDate() + " " + word({ month: "short" }) + (at.getFullYear() === now.getFullYear() ? " " : " " + at.getFullYear() + " ") + hour;
  };
  const span = s => {
    if (s < 9.95) return s.toFixed(1) + " s";
    s = Math.round(s);
    if (s < 60) return s + " s";
    const m = Math.floor(s / 60), h = Math.floor(m / 60);
    return s < 3600 ? m + " m " + two(s % 60) + " s" : h < 48 ? h + " h " + two(m % 60) + " m" : Math.floor(h / 24) + " d " + h % 24 + " h";
  };
  const localise = from => all("time[datetime]", from).forEach(t => { t.textContent = clock(new Date(t.dateTime), t.dataset.seconds); });
  const tick = () => {
    const now = Date.now() - ahead;
    all("[data-since]").forEach(e => { e.textContent = span(Math.max(0, now - Date.parse(e.dataset.since)) / 1000); });
    all("[data-until]").forEach(e => {
      const s = (Date.parse(e.dataset.until) - now) / 1000, whole = Math.round(Math.abs(s));
      const text = span(whole < 600 ? whole : whole - whole % 60).replace(/ 00 .$|\.0(?= s)/, "");
      e.textContent = whole < 1 ? "now" : s > 0 ? "in " + text : text + " ago";
    });
  };

  // -- live parts
  const waiting = new Map(); // of parts that hold the focus, what they will be
  const isBusy = e => e.contains(document.activeElement) && document.activeElement !== document.body;
  const put = (html, into, after) => {
    const made = document.createElement("template");
    made.innerHTML = html;
    const next = made.content.firstElementChild, old = by(next.id), box = into && by(into);
    if (old && old.dataset.v === next.dataset.v) return;
    if (old && isBusy(old)) { waiting.set(next.id, [html, into, after]); old.classList.add("stale"); return; }
    localise(next);
    if (old && (!box || old.parentNode === box)) {
      const check = one("input[type=checkbox]", old), same = one("input[type=checkbox]", next);
      if (check && same) same.checked = check.checked;
      if (old.classList.contains("at")) mark(next);
      old.replaceWith(next);
    } else if (box) {
      if (old) old.remove();
      const before = after && by(after);
      if (before && before.parentNode === box) before.after(next); else box.prepend(next);
    }
    if (next.id === "headline") document.title = (next.dataset.title || next.textContent.trim()) + " · flowherd";
  };
  const drop = id => {
    const old = by(id);
    if (!old) return;
    const check = one("input[type=checkbox]", old);
    if (isBusy(old) || (check && check.checked) || old.classList.contains("at")) old.classList.add("left"); else old.remove();
  };
  document.addEventListener("focusout", () => setTimeout(() => {
    for (const [id, args] of [...waiting]) if (!by(id) || !isBusy(by(id))) { waiting.delete(id); put(...args); }
  }));
  const fetched = async address => new DOMParser().parseFromString(await (await fetch(address, { headers: { Accept: "text/html" } })).text(), "text/html");
  const refresh = async () => {
    const page = await fetched(location.href), parts = all("[data-v]", page);
    if (!parts.length) return location.reload();
    parts.forEach(e => put(e.outerHTML, e.parentNode.id, (e.previousElementSibling || {}).id));
    all("[data-v]").forEach(e => page.getElementById(e.id) || drop(e.id));
    tick();
  };
  let source, heard = 0, gone = 0;
  const live = word => {
    const mark = by("live"), note = by("gone");
    mark.hidden = false; mark.textContent = word; mark.classList.toggle("late", word !== "live");
    root.classList.toggle("gone", word !== "live");
    if (word === "live") { gone = 0; if (note) note.remove(); return; }
    gone = gone || Date.now();
    if (note || Date.now() - gone < 2500) return;
    const p = document.createElement("p"), a = document.createElement("a");
    p.id = "gone"; p.className = "note warn"; p.setAttribute("role", "status");
    a.href = location.href; a.textContent = "Try now";
    p.append("No contact with the server since " + clock(new Date(gone), true) + ". What you see is from then. ", a);
    one("main").prepend(p);
  };
  const connect = () => {
    if (source) source.close();
    if (!document.body.dataset.live || document.hidden) return;
    source = new EventSource(document.body.dataset.live);
    const on = (name, then) => source.addEventListener(name, e => { heard = Date.now(); then(JSON.parse(e.data)); });
    on("at", at => { ahead = Date.now() - at * 1000; live("live"); });
    on("state", now => { if (Object.keys(now).some(id => (by(id) || { dataset: {} }).dataset.v !== now[id]) || all("[data-v]").some(e => !now[e.id])) refresh(); });
    on("part", p => { put(p.html, p.into, p.after); });
    on("gone", drop);
    on("lines", detail => document.dispatchEvent(new CustomEvent("lines", { detail })));
    source.onerror = () => live("trying again");
    heard = Date.now();
  };
  setInterval(() => {
    if (!document.body.dataset.live || document.hidden) return;
    if (one("html.gone")) live("trying again");
    if (Date.now() - heard > 4e4 || (source && source.readyState === 2 && Date.now() - heard > 5e3)) connect();
  }, 2500);
  document.addEventListener("visibilitychange", () => { if (document.hidden) { if (source) source.close(); } else connect(); });

  // -- questions as dialogs
  const ask = async href => {
    let found;
    try { found = one(".ask", await fetched(href)); } catch { /* the page says it */ }
    if (!found) { location = href; return; }
    const dialog = document.createElement("dialog");
    dialog.className = "ask";
    found.classList.remove("ask");
    dialog.append(document.adoptNode(found));
    dialog.setAttribute("aria-labelledby", "asks");
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    const single = by("single-keys");
    if (single) { single.checked = kept.get("keys") !== "off"; single.onchange = () => kept.set("keys", single.checked ? "on" : "off"); }
    dialog.showModal();
  };
  document.addEventListener("click", e => {
    const link = e.target.closest("a[data-ask], [data-close]");
    if (!link || e.ctrlKey || e.metaKey || e.shiftKey) return;
    const dialog = link.closest("dialog");
    if (link.dataset.ask !== undefined) { e.preventDefault(); ask(link.href); } else if (dialog) { e.preventDefault(); dialog.close(); }
  });
  document.addEventListener("submit", e => {
    const button = e.submitter;
    if (!button || button.dataset.ask === undefined) return;
    e.preventDefault();
    ask((button.getAttribute("formaction") || e.target.getAttribute("action")) + "?" + new URLSearchParams(new FormData(e.target)));
  });

  // -- lists
  const rows = () => all("[data-run]").filter(r => r.offsetParent);
  const current = () => one("[data-run].at") || (rows().length === 1 ? rows()[0] : null);
  const mark = row => { all(".at").forEach(r => { r.classList.remove("at"); r.removeAttribute("aria-current"); }); row.classList.add("at"); row.setAttribute("aria-current", "true"); };
  const move = by => {
    const list = rows(), row = list[Math.max(0, Math.min(list.length - 1, list.indexOf(one("[data-run].at")) + by))];
    if (!row) return;
    mark(row);
    (one("a.name", row) || row).focus();
  };
  const check = upTo => {
    const list = rows(), here = list.indexOf(current()), box = r => one("input[type=checkbox]", r);
    if (here < 0 || !box(list[here])) return;
    if (!upTo) { box(list[here]).checked = !box(list[here]).checked; return; }
    let from = here;
    while (from > 0 && !box(list[from - 1]).checked) from--;
    for (let n = from; n <= here; n++) box(list[n]).checked = true;
  };
  const act = what => {
    const marked = rows().filter(r => (one("input[type=checkbox]", r) || {}).checked), row = current();
    const ids = (marked.length ? marked : row ? [row] : []).map(r => "run=" + r.dataset.run);
    if (ids.length && document.body.dataset.acts) ask("/runs/" + what + "?" + ids.join("&"));
  };
  document.addEventListener("change", e => {
    if (e.target.matches("[data-all]")) rows().forEach(r => { one("input[type=checkbox]", r).checked = e.target.checked; });
    else if (e.target.matches(".filters select")) e.target.form.requestSubmit();
  });

  // -- keys
  const pages = { o: "/", r: "/runs", f: "/flows", s: "/schedules", a: "/agents" };
  const open = css => { const link = one(css); if (link) link.click(); };
  const keys = {
    "/": () => { const field = all(".logbar input[type=search], .filters .q, .find input").find(f => f.offsetParent); if (field) { field.focus(); field.select(); } },
    "?": () => ask("/keys"), t: nextTheme, j: () => move(1), k: () => move(-1), x: () => check(false), X: () => check(true),
    l: () => { const row = current(), link = row && one("a.name", row); if (link) location = link.href.split("#")[0] + "#log"; },
    c: () => act("cancel"), r: () => act("again"), n: () => open("a[rel=next]"), p: () => open("a[rel=prev]"),
    y: () => { const row = current(); if (row && navigator.clipboard) navigator.clipboard.writeText(row.dataset.run); },
  };
  let went = 0;
  document.addEventListener("keydown", e => {
    if (e.key === "Escape" && e.target.matches("input, textarea, select")) { e.target.blur(); return; }
    if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || kept.get("keys") === "off" || one("dialog[open]")) return;
    if (e.target.matches("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
    const going = Date.now() - went < 1500;
    went = 0;
    if (going && pages[e.key]) location = pages[e.key];
    else if (e.key === "g") went = Date.now();
    else if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
  });

  document.addEventListener("DOMContentLoaded", () => {
    localise(); tick(); named(); connect();
    setInterval(tick, 1000);
    by("theme").hidden = false; by("theme").onclick = nextTheme;
    all("[data-all]").forEach(box => { box.hidden = false; });
    by("zone").textContent = "Times are " + Intl.DateTimeFormat().resolvedOptions().timeZone + ", this browser's zone";
    if (location.search.includes("done=")) { const u = new URL(location); u.searchParams.delete("done"); history.replaceState(null, "", u); }
  });
})();
