"use strict";
// The page's words and controls. Pictures are Bokeh's; both speak with the server through the model `talk`.
const CarsRT = (() => {
  let talk = null, number = 0, said = {}, bandsShown = "", shown = "", typing = false, sent = false, drawing = false;
  let waiting = [], timer = 0, asked = 0, complaint = "";
  const $ = (id) => document.getElementById(id);
  let silent = 0, heardAt = 0, lostIt = false;  // seconds without a word from the display, of those that we were awake
  const EVERY_MS = 50, MOST = 50, LONGEST = 15000, SILENT_S = 6, WAIT_MS = 5000, LATE_MS = 30000;
  const KEPT = ["palette", "limits", "labels", "log", "substances", "theme"];  // and what is shown, as the server says it
  const storage = (() => { try { return sessionStorage; } catch { return null; } })();  // browsers can forbid it
  const kept = JSON.parse(storage?.getItem("kept") ?? "{}");  // orders that bring a page that is loaded anew to the same

  function send(orders) {
    if (talk !== null) talk.asked = JSON.stringify([++number, ...orders]);
  }

  // Of these each one counts: moves, and what daemon and recorder are to do.
  function counts(what) {
    return what.do === "move" || document.querySelector(`#control [data-do="${what.do}"]`) !== null;
  }

  // A few messages a second: the server reads message by message, and behind thousands it would not hear in time that
  // the browser is still there. Of one kind that follows itself the last order is sent, of a flood the last of each kind.
  function ask(what) {
    const long = JSON.stringify(what).length > LONGEST;
    if (long || complaint) {
      complaint = long ? `That is too long: give fewer than ${LONGEST} characters.` : "";
      show();
    }
    if (long) return;
    if (KEPT.includes(what.do) && !what.restored) keep(what.do, what);
    const last = waiting[waiting.length - 1];
    if (last?.do === what.do && what.do === "move") {
      what = { ...what, rows: what.rows + last.rows, columns: what.columns + last.columns };
      waiting.pop();
    } else if (last?.do === what.do && !counts(what)) waiting.pop();
    waiting.push(what);
    if (waiting.length > MOST) {
      const old = waiting.findIndex((each, at) => !counts(each) && waiting.findLastIndex((later) => later.do === each.do) > at);
      if (old >= 0) waiting.splice(old, 1);
    }
    if (!timer) timer = setTimeout(flush, Math.max(0, asked + EVERY_MS - performance.now()));
  }

  // In as many messages as the server bears.
  function flush() {
    clearTimeout(timer);
    timer = 0;
    if (waiting.length) asked = performance.now();
    while (waiting.length) {
      let [count, length] = [0, 0];
      while (count < waiting.length && (length += JSON.stringify(waiting[count]).length) <= LONGEST) count++;
      send(waiting.splice(0, count));
    }
  }

  function keep(name, what) {
    kept[name] = what;
    storage?.setItem("kept", JSON.stringify(kept));
  }

  // As the server says it, which may have chosen.
  function hold(name, what) {
    const order = what && { do: name, ...what };
    if (JSON.stringify(order) !== JSON.stringify(kept[name] ?? null)) keep(name, order);
  }

  function restore() {
    const { palette, limits, labels, log, substances } = kept;
    if (palette) $("palette").value = palette.name;
    if (limits) {
      $("by").value = limits.by;
      $("hand").hidden = limits.by !== "hand";
      if (limits.by === "hand") [$("lower").value, $("upper").value] = limits.ranges?.[0] ?? [];
    }
    for (const each of [labels, log]) if (each) $(each.do).checked = each.on;
    for (const each of document.querySelectorAll("[name=substance]")) each.checked = substances?.names.includes(each.value) ?? false;
    for (const each of Object.values(kept)) if (each) ask({ ...each, restored: true });  // as far as it still fits
  }

  function text(id, value) {
    const where = $(id);
    if (where && where.textContent !== value) where.textContent = value;
  }

  // Not where somebody types or drags at this moment.
  function put(id, value) {
    if (document.activeElement !== $(id)) $(id).value = value;
  }

  // The server waits for this before it sends more: it says that the browser has drawn. A hidden tab draws nothing, and
  // says it once of all that came meanwhile.
  function drawn() {
    if (drawing) return;
    drawing = true;
    const told = () => { drawing = false; send([{ do: "drawn", tick: said.tick }]); };
    requestAnimationFrame(() => requestAnimationFrame(told));
  }

  function health(level, sentence) {
    $("health").className = level;
    text("level", level);
    text("sentence", sentence);
  }

  // What the display says of it, while it is heard.
  function condition() {
    if (said.level && !lostIt && silent < SILENT_S) health(said.level, said.sentence);
  }

  // It says something every 2 s. Seconds are counted one by one, as a tab that slept has what was said meanwhile still before it.
  function listen() {
    if (++silent < SILENT_S || lostIt) return;
    health("amber", `Nothing heard from the display for ${Math.round((performance.now() - heardAt) / 1000)} s: what is shown may be old.`);
  }

  function heard() {
    const was = silent;
    [silent, heardAt] = [0, performance.now()];
    if (was >= SILENT_S) condition();
  }

  function hear(model) {
    heard();
    const first = talk === null;
    talk = model;
    said = JSON.parse(talk.said);
    if (first) begin();
    show();
    drawn();
  }

  function show() {
    condition();
    if (said.level) {
      rows(said.rows);
      flags(said.flags);
    }
    const message = $("message");
    message.hidden = !complaint && !said.message;
    message.className = complaint || said.bad ? "bad" : "";
    text("message", complaint || said.message || "");
    text("words", said.words || "");
    text("peaks", said.peaks?.length ? `Peaks at ${said.peaks.join(", ")} cm⁻¹.` : "");
    $("map").hidden = said.points;
    $("waterfall").hidden = $("trend").hidden = !said.points;
    $("stack").hidden = said.points;
    if (said.planes) {
      const [count, plane] = said.planes;
      hold("planes", { count, plane });
      $("plane").hidden = count < 2;
      $("plane").max = count - 1;
      put("planes", count);
      put("plane", plane);
    }
    if (said.daemon_bands) bands(said.daemon_bands);
    const [by, , [ends]] = said.limits ?? ["auto", "", []];
    $("as-now").disabled = !ends;
    if ($("by").value !== "hand") {
      // Also where it was just chosen, and holds for what is no longer shown. By hand is what only this box sets: the
      // server still says it, until it has read that something else was chosen.
      if (by !== "hand") $("by").value = by;
      if (ends) [$("lower").value, $("upper").value] = ends.map((each) => each.toPrecision(4));
    }
    if (said.theme) {
      document.documentElement.dataset.theme = said.theme;
      text("theme", said.theme === "dark" ? "light theme" : "dark theme");
    }
    if (said.title !== shown && (sent || typing === "kind")) {  // it is shown; one that is refused, or not yet sent, stays
      if (!sent && said.form?.length) [$("low").value, $("high").value] = said.form;  // dragged in the spectrum
      else typing = false;
    }
    shown = said.title;
    if (said.points) hold("planes", null);
    if (said.chosen) hold("shown", said.chosen);
    if (said.form?.length && !typing) form(...said.form);
  }

  function form(low, high, kind, ...second) {
    [$("low").value, $("high").value, $("kind").value] = [low, high, kind];
    $("second").hidden = kind !== "ratio";
    if (kind === "ratio") [$("low2").value, $("high2").value] = second;
  }

  function rows(pairs) {
    const list = $("rows");
    while (list.children.length > pairs.length) list.lastChild.remove();
    pairs.forEach(([name, value], at) => {
      let row = list.children[at];
      if (!row) {
        row = document.createElement("div");
        row.append(document.createElement("dt"), document.createElement("dd"));
        list.append(row);
      }
      if (row.children[0].textContent !== name) row.children[0].textContent = name;
      if (row.children[1].textContent !== value) row.children[1].textContent = value;
      row.dataset.name = name;
    });
  }

  function flags(shares) {
    const step = 60 / Math.max(shares.length - 1, 1);
    const points = shares.map((share, at) => `${(at * step).toFixed(1)},${(19 - 18 * share).toFixed(1)}`);
    $("flags").innerHTML = points.length > 1 ? `<path d="M${points.join(" L")}"/>` : "";
    const last = shares.length ? Math.round(100 * shares[shares.length - 1]) : 0;
    $("flags").setAttribute("aria-label", `share of flagged spectra over the last minute, now ${last} %`);
  }

  function bands(list) {
    const now = JSON.stringify(list);
    if (now === bandsShown) return;
    bandsShown = now;
    const select = $("band");
    select.replaceChildren(new Option("bands …", ""));
    list.forEach(([name, low, high], at) => select.add(new Option(`${name} ${low}–${high}`, String(at))));
  }

  function band() {
    const what = { do: "band", low: $("low").valueAsNumber, high: $("high").valueAsNumber, kind: $("kind").value };
    if (what.kind === "ratio") {
      what.low2 = $("low2").valueAsNumber;
      what.high2 = $("high2").valueAsNumber;
    }
    ask(what);
  }

  function limits() {
    const by = $("by").value, [, of, ranges] = said.limits ?? [];
    $("hand").hidden = by !== "hand";
    for (const [id, usual] of [["lower", 0], ["upper", 1]]) if ($(id).value === "") $(id).value = usual;
    ask({ do: "limits", by, of, ranges: by === "hand" ? [[$("lower").valueAsNumber, $("upper").valueAsNumber]] : ranges });
  }

  function control(button) {
    const what = { do: button.dataset.do };
    if (button.dataset.state) what.state = button.dataset.state;
    if (what.do === "reload" || what.do === "shadow") what.model = $("model").value;
    if (what.do === "record") [what.name, what.sample] = [$("record-name").value, $("record-sample").value];
    if (what.do === "bands") what.bands = $("bands").value;
    ask(what);
  }

  function key(event) {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.altKey || event.metaKey) return;
    const far = event.shiftKey ? 10 : 1;
    const moves = { ArrowUp: [-far, 0], ArrowDown: [far, 0], ArrowLeft: [0, -far], ArrowRight: [0, far] };
    if (event.key in moves && event.target.closest(".plot")) {
      const [rows, columns] = moves[event.key];
      ask({ do: "move", rows, columns });
    } else if (event.key === "Escape") ask({ do: "latest" });
    else if (event.key === "p") ask({ do: "pin" });
    else return;
    event.preventDefault();
  }

  function begin() {
    const click = (id, what) => $(id).addEventListener("click", () => ask(what()));
    $("band-form").addEventListener("submit", (event) => { event.preventDefault(); sent = true; band(); });
    for (const id of ["low", "high", "kind", "low2", "high2"]) $(id).addEventListener("input", () => { [typing, sent] = [id, false]; });
    $("band").addEventListener("change", () => {
      const chosen = said.daemon_bands[Number($("band").value)];
      if ($("band").value === "" || !chosen) return;
      typing = false;
      form(chosen[1], chosen[2], "mean");
      ask({ do: "band", name: chosen[0], low: chosen[1], high: chosen[2], kind: "mean" });
      $("band").value = "";  // it does not follow what is shown: the same band may be chosen again
    });
    $("kind").addEventListener("change", () => { $("second").hidden = $("kind").value !== "ratio"; });
    $("rgb").addEventListener("click", () => ask({ do: "rgb", bands: said.daemon_bands.slice(0, 3).map(([name, low, high]) => [low, high, name]) }));
    $("palette").addEventListener("change", () => ask({ do: "palette", name: $("palette").value }));
    $("by").addEventListener("change", limits);
    $("limits-form").addEventListener("submit", (event) => { event.preventDefault(); limits(); });
    const stack = () => ask({ do: "planes", count: $("planes").valueAsNumber, plane: $("plane").valueAsNumber });
    $("planes").addEventListener("change", stack);
    $("plane").addEventListener("input", stack);
    click("latest", () => ({ do: "latest" }));
    click("pin", () => ({ do: "pin" }));
    click("unpin", () => ({ do: "unpin" }));
    for (const id of ["labels", "log"]) $(id).addEventListener("change", () => ask({ do: id, on: $(id).checked }));
    $("substances").addEventListener("change", () => ask({
      do: "substances", names: [...document.querySelectorAll("[name=substance]:checked")].map((each) => each.value),
    }));
    const theme = (name) => ask({ do: "theme", name });
    $("theme").addEventListener("click", () => theme(said.theme === "dark" ? "light" : "dark"));
    for (const button of document.querySelectorAll("#control button")) button.addEventListener("click", () => control(button));
    document.addEventListener("keydown", key);
    document.addEventListener("pointerdown", flush, true);  // what is done in a plot is told at once, and after this
    setInterval(listen, 1000);
    if (matchMedia("(prefers-color-scheme: dark)").matches && !kept.theme) theme("dark");
    restore();
  }

  // A page that is cut off says so, and comes back with what was chosen; a proxy before the display answers also without it.
  function lost() {
    const gone = () => {
      lost();
      health("red", "The display does not answer: it has ended (`cars-rt view`), or the network is gone. This page comes back with it.");
    };
    const back = (answer) => answer.ok ? location.reload() : gone();
    const look = () => fetch("/view/view.css", { cache: "no-store", signal: AbortSignal.timeout(WAIT_MS) }).then(back, gone);
    setTimeout(look, 1000);
    if (!lostIt) health("amber", "The connection to the display broke; this page comes back with it.");
    lostIt = true;
  }

  // Nobody calls us where Bokeh's files or the websocket did not come through.
  addEventListener("load", () => setTimeout(() => {
    if (heardAt || lostIt) return;
    health("amber", "The display is there, but nothing comes from it: if that stays, a proxy on the way does not let its " +
      "websocket through (Upgrade). This page tries again.");
    setTimeout(() => heardAt || lostIt || lost(), LATE_MS);
  }, LATE_MS));

  return { hear, heard, listen, lost };
})();
