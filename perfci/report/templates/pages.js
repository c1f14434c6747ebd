/* What a reader does with the pages: find, group and sort rows, see what a point is, compare two runs.
   Nothing is asked of a server: data files are scripts, so that pages opened from a folder work, too.
   Words are those of perfci/wording.py, sizes those of perfci/report/svg.py; tests hold them together. */
"use strict";
const perfci = (() => {
  const root = document.documentElement.dataset.root;
  const waiting = new Map(), loaded = new Map();
  const NBSP = "\u00a0", MISSING = "\u2013", MINUS = "\u2212";
  const $ = (where, what) => where.querySelector(what);

  function put(name, data) {
    loaded.set(name, data);
    waiting.get(name)?.resolve(data);
  }

  function load(name) {
    if (loaded.has(name)) return Promise.resolve(loaded.get(name));
    if (!waiting.has(name)) {
      const one = {};
      one.promise = new Promise((resolve, reject) => Object.assign(one, { resolve, reject }));
      waiting.set(name, one);
      const script = document.createElement("script");
      script.src = root + name + ".js";
      script.onerror = () => one.reject(new Error(`${name}.js is not there`));
      document.head.append(script);
    }
    return waiting.get(name).promise;
  }

  function make(tag, attributes = {}, ...children) {
    const found = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
    found.append(...children.filter((one) => one !== null));
    return found;
  }

  /* ---- words ---- */
  const isNone = (value) => value === null || value === undefined || !Number.isFinite(value);
  /* As Python rounds: what lies exactly in the middle goes to the even digit. */
  function fixed(value, decimals) {
    const up = value.toFixed(decimals);
    const rest = value.toFixed(60).split(".")[1]?.slice(decimals);
    if (!/^50*$/.test(rest) || Number(up.at(-1)) % 2 === 0) return up;
    const step = 10 ** -decimals;
    return (value - (Math.sign(value) * step) / 4).toFixed(decimals);
  }
  function significant(value) {
    if (value === 0) return "0";
    const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
    return fixed(value, Math.min(decimals, 6));
  }
  function seconds(value) {
    if (Math.abs(value) > 0 && Math.abs(value) < 0.1) return `${significant(1000 * value)}${NBSP}ms`;
    return `${significant(value)}${NBSP}s`;
  }
  function quantity(value, metric) {
    if (isNone(value)) return MISSING;
    if (metric === "peak_rss_bytes") {
      for (const unit of ["B", "KiB", "MiB"]) {
        if (Math.abs(value) < 1024) return `${significant(value)}${NBSP}${unit}`;
        value /= 1024;
      }
      return `${significant(value)}${NBSP}GiB`;
    }
    if (metric === "failure_rate") return `${significant(100 * value)}${NBSP}%`;
    if (metric === "megabits_per_second") return `${Number(fixed(value, 0)).toLocaleString("en-US")}${NBSP}Mbit/s`;
    if (metric === "seconds" || metric === "cpu_seconds") return seconds(value);
    if (metric === "ratio") return `${fixed(value, 3)}${NBSP}\u00d7`;
    return significant(value);
  }
  const unit = (metric) => (metric === "failure_rate" ? "points" : "%");
  function signed(share) {
    const value = 100 * share;
    const text = fixed(Math.abs(value), Math.abs(value) >= 10 ? 0 : 1);
    return (Number(text) === 0 ? "" : value < 0 ? MINUS : "+") + text;
  }
  const change = (share, metric) => (isNone(share) ? MISSING : `${signed(share)}${NBSP}${unit(metric)}`);
  const interval = (low, high, metric) =>
    isNone(low) || isNone(high) ? MISSING : `${signed(low)}${NBSP}…${NBSP}${signed(high)}${NBSP}${unit(metric)}`;
  function probability(value) {
    if (isNone(value)) return MISSING;
    if (value < 0.0001) return `<${NBSP}0.0001`;
    return value < 1 ? String(Number(fixed(value, 1 - Math.floor(Math.log10(value))))) : "1";
  }
  const words = { quantity, change, interval, probability };
  function moment(id) {
    const found = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)\d\dZ/.exec(id);
    return found ? `${found[1]}-${found[2]}-${found[3]} ${found[4]}:${found[5]}` : id;
  }
  const safe = (name) => name.replace(/[^A-Za-z0-9._-]/g, "_");
  const runPage = (id) => `${root}runs/${safe(id)}.html`;

  /* ---- pictures of trends ---- */
  const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [760, 190, 10, 62, 20, 26];
  const SVG = "http://www.w3.org/2000/svg";
  const tip = make("div", { class: "tip", role: "status", hidden: "" });

  function told(series, job, first, at, n) {
    const run = first + at;
    const lines = [`${moment(job.runs[run])} UTC: ${quantity(series.middle[n], series.metric)}`];
    const pick = (column) => (Array.isArray(column) ? column[n] : column);
    if (series.low && series.low[n] < series.high[n])
      lines.push(`middle 80 %: ${quantity(series.low[n], series.metric)} … ${quantity(series.high[n], series.metric)}`);
    const [values, failures] = [pick(series.values), pick(series.failures)];
    const counted = (number, noun) => `${number}${NBSP}${noun}${number === 1 ? "" : "s"}`;
    lines.push(counted(values, "value") + (failures ? `, ${counted(failures, "failure")}` : ""));
    if (job.unfit.includes(run)) lines.push("the lab was not fit to measure");
    lines.push(job.codes[job.code[run]], job.runs[run]);
    return lines.join("\n");
  }

  async function picture(svg) {
    if (svg.dataset.ready) return;
    svg.dataset.ready = "1";
    const file = await load(svg.closest("[data-file]").dataset.file);
    const job = await load(file.job);
    const series = file.series[svg.dataset.series];
    const places = series.at || series.middle.map((_, n) => n);
    const step = (WIDTH - LEFT - RIGHT) / Math.max(job.runs.length - file.first, 2);
    const [low, high] = [Number(svg.dataset.low), Number(svg.dataset.high)];
    const x = (at) => LEFT + (at + 0.5) * step;
    const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const ring = document.createElementNS(SVG, "circle");
    ring.setAttribute("class", "here");
    ring.setAttribute("r", "6");
    const guide = document.createElementNS(SVG, "path");
    guide.setAttribute("class", "guide");
    let now = -1;
    function show(n) {
      now = Math.max(0, Math.min(n, places.length - 1));
      const [cx, cy] = [x(places[now]), y(series.middle[now])];
      ring.setAttribute("cx", cx);
      ring.setAttribute("cy", cy);
      guide.setAttribute("d", `M${cx} ${TOP}V${HEIGHT - BOTTOM}`);
      svg.append(guide, ring);
      tip.textContent = told(series, job, file.first, places[now], now);
      if (!tip.isConnected) document.body.append(tip);
      tip.hidden = false;
      const box = svg.getBoundingClientRect(), scale = box.width / WIDTH;
      const left = Math.min(Math.max(box.left + cx * scale + 12, 4), innerWidth - tip.offsetWidth - 4);
      tip.style.left = `${Math.max(left, 4) + scrollX}px`;
      tip.style.top = `${box.bottom + scrollY - BOTTOM * scale + 6}px`;
    }
    function hide() {
      now = -1;
      tip.hidden = true;
      ring.remove();
      guide.remove();
    }
    const nearest = (event) => {
      const box = svg.getBoundingClientRect();
      const at = ((event.clientX - box.left) * WIDTH) / box.width;
      let best = 0;
      places.forEach((place, n) => { if (Math.abs(x(place) - at) < Math.abs(x(places[best]) - at)) best = n; });
      return best;
    };
    const open = () => { if (now >= 0) location.href = runPage(job.runs[file.first + places[now]]); };
    svg.addEventListener("pointermove", (event) => show(nearest(event)));
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    let tapped = -1;
    svg.addEventListener("click", (event) => {
      const at = nearest(event);
      show(at);
      /* A finger can't point without touching: its first tap shows the run, the next one opens it. */
      if (event.pointerType !== "touch" || tapped === at) return open();
      tapped = at;
      tip.append("\nTap again to open the run.");
    });
    svg.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: now < 0 ? places.length - 1 : now - 1, ArrowRight: now < 0 ? 0 : now + 1, Home: 0, End: places.length - 1 };
      if (event.key in to) { event.preventDefault(); show(to[event.key]); }
      else if (event.key === "Enter") open();
      else if (event.key === "Escape") hide();
    });
  }
  for (const kind of ["pointerover", "focusin"])
    document.addEventListener(kind, (event) => {
      const svg = event.target.closest?.("svg.trend[data-series]");
      if (svg) picture(svg).catch(complain);
    });

  async function unfold(details) {
    const place = $(details, ".picture");
    if (!details.dataset.picture || !place || $(place, "svg")) return;
    const file = await load(details.closest("[data-file]").dataset.file);
    /* The picture comes from the same folder as this page, and its texts are escaped there. */
    place.innerHTML = file.pictures[details.dataset.picture];
  }
  function go() {
    const there = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (there?.tagName === "DETAILS") { there.open = true; there.scrollIntoView(); }
  }
  const complain = (error) => console.warn(String(error));

  /* ---- rows of a run ---- */
  const ROWS = 200;
  const TONES = {
    regression: "bad", "known regression": "lab", improvement: "good", "too noisy to tell": "lab", "invalid (lab)": "lab", "no data": "lab",
  };
  const badge = (text, outcome = text) => make("span", { class: `badge ${TONES[outcome] || "quiet"}` }, text);

  function rowsOf(data, table) {
    const several = new Set(table.scenarios.map(([label]) => label).filter((label, n, all) => all.indexOf(label) !== n));
    return data.rows.map(([outcome, effect, low, high, q, mde, before, after], n) => {
      const [scenario, name, anchor, service, metric] = table.series[n];
      const [plain, digest, page] = table.scenarios[scenario];
      const label = several.has(plain) ? `${plain} · arguments ${digest}` : plain;
      return { place: n, outcome: table.outcomes[outcome], rank: outcome, effect, low, high, q, mde, before, after,
        scenario: label, name, service, metric, link: `${root}${page}#${anchor}`, text: `${label} ${name}`.toLowerCase() };
    });
  }
  function cells(one) {
    const levels = isNone(one.before)
      ? quantity(one.after, one.metric)
      : `${quantity(one.before, one.metric)} → ${quantity(one.after, one.metric)}`;
    const range = interval(one.low, one.high, one.metric);
    return make("tr", {},
      make("th", { scope: "row" }, make("a", { href: one.link }, one.name), make("br"), make("span", { class: "soft" }, one.scenario)),
      make("td", { class: "number" }, make("strong", {}, change(one.effect, one.metric)), make("span", { class: "narrow soft" }, range)),
      make("td", { class: "number late" }, range),
      make("td", { class: "number" }, change(one.mde, one.metric).replace(/^\+/, "")),
      make("td", { class: "number levels" }, levels),
      make("td", { class: "number late" }, probability(one.q)));
  }
  function head() {
    const cell = (text, kind) => make("th", { scope: "col", class: kind }, text);
    const term = (name, text = name) => make("button", { class: "term", type: "button", popovertarget: `term-${name}` }, text);
    return make("thead", {}, make("tr", {}, cell("series", ""), cell("effect", "number"), cell(term("interval", "95 % interval"), "number late"),
      cell(term("MDE"), "number"), cell("before → after", "number levels"), cell(term("q"), "number late")));
  }
  const orders = {
    effect: (a, b) => a.rank - b.rank || Math.abs(b.effect ?? 0) - Math.abs(a.effect ?? 0) || a.place - b.place,
    name: (a, b) => (a.text < b.text ? -1 : 1),
    mde: (a, b) => (b.mde ?? -1) - (a.mde ?? -1) || a.place - b.place,
    q: (a, b) => (a.q ?? 2) - (b.q ?? 2) || a.place - b.place,
  };
  function grouped(list, by) {
    const groups = new Map();
    for (const one of list) {
      if (!groups.has(one[by])) groups.set(one[by], []);
      groups.get(one[by]).push(one);
    }
    return [...groups];
  }
  function group(name, list, by, open) {
    const body = make("tbody");
    const more = make("button", { type: "button", class: "all" });
    let shown = 0;
    const next = () => {
      body.append(...list.slice(shown, shown + ROWS).map(cells));
      shown = Math.min(shown + ROWS, list.length);
      more.hidden = shown === list.length;
      more.textContent = `${list.length - shown} more`;
    };
    more.addEventListener("click", next);
    const worst = grouped([...list].sort((a, b) => a.rank - b.rank), "outcome").map(([outcome, some]) =>
      make("span", {}, " ", badge(by === "outcome" ? outcome : `${outcome}: ${some.length}`, outcome)));
    const title = make("summary", {}, ...(by === "outcome" ? [...worst, ` ${list.length}`] : [`${name} `, ...worst]));
    const found = make("details", {}, title, make("div", { class: "wide" }, make("table", {}, head(), body)), more);
    const fill = () => { if (!shown) next(); };
    found.addEventListener("toggle", () => { if (found.open) fill(); });
    if (open) { found.open = true; fill(); }
    return found;
  }
  const calm = (outcome) => ["no change", "no baseline", "judged by its ratio", "not judged"].includes(outcome);

  function rows(section) {
    const form = $(section, "form"), found = $(section, ".found"), greyed = "greyed" in section.dataset;
    let all = null;
    async function list() {
      if (!all) {
        const data = await load(section.dataset.file);
        all = rowsOf(data, await load(data.series));
        const outcomes = [...new Set(all.map((one) => one.outcome))];
        $(form, "[name=show]").append(...outcomes.map((one) => make("option", { value: one }, one)));
      }
      return all;
    }
    async function draw(everything) {
      const wanted = form.find.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      const by = form.group.value;
      const mine = (await list()).filter((one) =>
        (!form.show.value || one.outcome === form.show.value) && wanted.every((word) => one.text.includes(word)));
      mine.sort(orders[form.sort.value]);
      const groups = grouped(mine, by);
      const few = mine.length <= ROWS / 4 && wanted.length > 0;
      found.replaceChildren(...(mine.length
        ? groups.map(([name, some]) => group(name, some, by, few || groups.length === 1 || greyed || (by === "outcome" && (everything || !calm(name)))))
        : [make("p", {}, "No series matches.")]));
      found.classList.toggle("greyed", greyed);
    }
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("focusin", () => list().catch(complain), { once: true });
    form.addEventListener("input", (event) => { if (event.target === form.find) draw(false).catch(complain); });
    form.addEventListener("change", (event) => { if (event.target !== form.find) draw(false).catch(complain); });
    const button = $(section, ".more .all");
    if (button) {
      button.hidden = false;
      button.addEventListener("click", () => draw(true).catch(complain));
    }
  }

  async function between(place) {
    const job = await load(place.dataset.job);
    const at = job.runs.indexOf(place.dataset.run);
    if (at < 0) return;
    const nav = $(document, ".steps-between");
    const step = (n, text) => (job.runs[n] ? make("a", { href: runPage(job.runs[n]) }, text) : null);
    const parts = [step(at - 1, "← run before"), step(at + 1, "run after →"), make("a", { href: `${root}compare.html#${at ? job.runs[at - 1] : ""}..${job.runs[at]}` }, "compare with another run")];
    parts.filter(Boolean).forEach((one, n) => nav.append(...(n ? [" · ", one] : [one])));
    nav.hidden = false;
  }

  /* ---- two runs ---- */
  const LEVELS = Array.from({ length: 21 }, (_, n) => n / 20);
  const NORMAL_95 = 1.959964;

  function shifts(before, after) {
    return before[1].map((error, n) => {
      const [old, now] = [before[0][2 * (n + 1)], after[0][2 * (n + 1)]];
      const half = NORMAL_95 * Math.hypot(error, after[1][n]);
      return { level: (n + 1) / 10, before: old, after: now, shift: now - old, low: now - old - half, high: now - old + half };
    });
  }
  function element(tag, attributes, text) {
    const found = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
    if (text) found.textContent = text;
    return found;
  }
  function ticks(low, high) {
    const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => power * factor).find((one) => one >= rough);
    const [first, last] = [Math.ceil(low / step), Math.floor(high / step)];
    return Array.from({ length: Math.max(last - first + 1, 0) }, (_, n) => (first + n) * step);
  }
  function overlay(before, after, metric) {
    const [width, height, left, right, top, bottom] = [760, 200, 66, 14, 10, 26];
    let [low, high] = [Math.min(before[0][0], after[0][0]), Math.max(before[0][20], after[0][20])];
    const reach = high - low || Math.abs(high) || 1;
    [low, high] = [Math.max(0, low - 0.03 * reach), high + 0.03 * reach];
    const x = (value) => (left + ((value - low) / (high - low)) * (width - left - right)).toFixed(1);
    const y = (share) => (height - bottom - share * (height - top - bottom)).toFixed(1);
    const svg = element("svg", { class: "trend shares", viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `medians ${quantity(before[0][10], metric)} before, ${quantity(after[0][10], metric)} after` });
    for (const share of [0, 0.5, 0.9]) {
      svg.append(element("path", { class: "grid", d: `M${left} ${y(share)}H${width - right}` }));
      svg.append(element("text", { class: "tick", x: left - 6, y: Number(y(share)) + 3.5, "text-anchor": "end" }, `${100 * share}${NBSP}%`));
    }
    for (const value of ticks(low, high)) {
      if (x(value) < left + 14 || x(value) > width - right - 14) continue;
      svg.append(element("text", { class: "tick", x: x(value), y: height - 6, "text-anchor": "middle" }, quantity(value, metric)));
    }
    for (const [kind, one] of [["old", before], ["new", after]])
      svg.append(element("path", { class: `share ${kind}`, d: one[0].map((value, n) => `${n ? "L" : "M"}${x(value)} ${y(LEVELS[n])}`).join("") }));
    return svg;
  }
  function deciles(list, metric) {
    const number = (text, kind = "") => make("td", { class: `number ${kind}` }, text);
    const body = list.map((one) => {
      const share = (value) => (one.before ? value / one.before : null);
      return make("tr", one.low > 0 || one.high < 0 ? { class: "certain" } : {}, make("th", { scope: "row" }, `${Math.round(100 * one.level)} %`),
        number(quantity(one.before, metric), "late"), number(quantity(one.after, metric), "late"), number(change(share(one.shift), metric)),
        number(interval(share(one.low), share(one.high), metric)));
    });
    const top = ["of the iterations", "before", "after", "shift", "95 % interval"].map((text, n) => make("th", { scope: "col", class: ["", "number late", "number late", "number", "number"][n] }, text));
    return make("table", { class: "deciles" }, make("thead", {}, make("tr", {}, ...top)), make("tbody", {}, ...body));
  }
  async function side(id) {
    const data = await load(`runs/${safe(id)}`);
    const [table, versions] = [await load(data.series), await load(data.packages)];
    const series = new Map(rowsOf(data, table).map((one) => [one.link, { ...one, shape: data.distributions[one.place] }]));
    return { ...data, series, versions };
  }
  function moved(old, now, kind) {
    return [...new Set([...Object.keys(old), ...Object.keys(now)])].sort().filter((name) => old[name] !== now[name])
      .map((name) => make("tr", {}, make("th", { scope: "row" }, `${kind} ${name}`), make("td", {}, old[name] ?? MISSING), make("td", {}, now[name] ?? MISSING)));
  }
  function timing(pair) {
    const [old, now] = [pair.old, pair.now], list = shifts(old.shape, now.shape), middle = list[4];
    const share = (value) => (middle.before ? value / middle.before : null);
    const certain = middle.low > 0 || middle.high < 0;
    const title = make("summary", {}, make("strong", {}, `${change(share(middle.shift), now.metric)} `),
      make("span", { class: "soft" }, `(${interval(share(middle.low), share(middle.high), now.metric)}) `),
      certain ? badge(middle.shift > 0 ? "slower" : "faster") : "", ` ${now.name} `, make("span", { class: "soft" }, now.scenario));
    if (certain) $(title, ".badge").className = `badge ${middle.shift > 0 ? "bad" : "good"}`;
    const found = make("details", {}, title);
    found.addEventListener("toggle", () => {
      if (found.open && !$(found, "svg"))
        found.append(make("p", { class: "soft" }, "The share of iterations that finished within a time. Dashed line: before; solid line: after."),
          make("div", { class: "picture" }, overlay(old.shape, now.shape, now.metric)), make("div", { class: "wide" }, deciles(list, now.metric)));
    });
    return { found, size: Math.abs(share(middle.shift) ?? 0) + (certain ? 1e6 : 0), text: now.text };
  }
  async function compared(before, after) {
    const place = $(document, "#compared"), told = $(document, "#compare .told");
    place.hidden = true;
    told.textContent = "";
    const [old, now] = [await side(before), await side(after)];
    const pairs = [...now.series.keys()].filter((link) => old.series.has(link)).map((link) => ({ old: old.series.get(link), now: now.series.get(link) }));
    const different = [...moved(old.code, now.code, "code of"), ...moved(old.versions, now.versions, "package")];
    $(place, ".moved tbody").replaceChildren(...(different.length ? different : [make("tr", {}, make("td", { colspan: "3" }, "Neither code nor packages differ."))]));
    $(place, ".environment").textContent = old.environment === now.environment ? "Both runs had the same environment: hardware, kernel, settings." : `The environments differ (${old.environment} → ${now.environment}), and that alone can explain what you see.`;
    const timings = pairs.filter((one) => one.old.shape && one.now.shape).map(timing).sort((a, b) => b.size - a.size);
    const find = $(place, "[name=find]");
    const draw = () => {
      const wanted = find.value.trim().toLowerCase();
      const mine = timings.filter((one) => one.text.includes(wanted)).slice(0, ROWS);
      $(place, ".timings").replaceChildren(...(mine.length ? mine.map((one) => one.found) : [make("p", {}, "No timing was measured in both runs.")]));
    };
    find.oninput = draw;
    draw();
    if (timings.length) timings[0].found.open = true;
    const counters = pairs.filter((one) => !(one.old.shape && one.now.shape) && one.old.after !== one.now.after && !isNone(one.old.after) && !isNone(one.now.after))
      .map((one) => ({ ...one, share: one.old.after ? one.now.after / one.old.after - 1 : null }))
      .sort((a, b) => Math.abs(b.share ?? 1e9) - Math.abs(a.share ?? 1e9));
    const number = (text, kind = "") => make("td", { class: `number ${kind}` }, text);
    const ratios = counters.some((one) => one.now.metric === "ratio");
    $(place, ".counters").closest("section").querySelector("h2").textContent = ratios ? "Counters, and ratios to the reference" : "Counters";
    const none = make("tr", {}, make("td", { colspan: "4" }, "No counter differs."));
    $(place, ".counters tbody").replaceChildren(...(counters.length ? [] : [none]), ...counters.slice(0, ROWS).map(({ old: a, now: b, share }) =>
      make("tr", {}, make("th", { scope: "row" }, make("a", { href: b.link }, b.name), make("br"), make("span", { class: "soft" }, b.scenario),
          make("span", { class: "narrow soft" }, `${quantity(a.after, a.metric)} → ${quantity(b.after, b.metric)}`)),
        number(quantity(a.after, a.metric), "late"), number(quantity(b.after, b.metric), "late"), number(b.metric === "failure_rate" ? MISSING : change(share, b.metric)))));
    const unfit = [old, now].filter((one) => !one.valid).map((one) => one.when);
    told.textContent = `${pairs.length} series in both runs.${unfit.length ? ` The lab was not fit to measure on ${unfit.join(" and ")}.` : ""}`;
    $(place, ".command").textContent = `perfci run compare ${before} ${after}`;
    $(place, ".changes").textContent = `perfci changes ${before} ${after}`;
    place.hidden = false;
  }
  async function compare(section) {
    const form = $(section, "form"), jobs = section.dataset.jobs.trim().split(" ").filter(Boolean);
    section.hidden = false;
    const wanted = () => location.hash.slice(1).split("..");
    async function choose(name) {
      const job = await load(name);
      for (const select of [form.before, form.after])
        select.replaceChildren(...[...job.runs].reverse().map((id) => make("option", { value: id }, `${moment(id)}${job.unfit.includes(job.runs.indexOf(id)) ? " (unfit)" : ""}`)));
      return job;
    }
    async function start() {
      const [before, after] = wanted();
      let job = null, name = jobs[0];
      for (const one of jobs) {
        const found = await load(one);
        if (one === before || found.runs.includes(after) || found.runs.includes(before)) { name = one; break; }
      }
      job = await choose(name);
      if (form.job) form.job.value = name;
      const last = job.runs.length - 1;
      const add = (select, id) => { if (id && ![...select.options].some((one) => one.value === id)) select.append(make("option", { value: id }, moment(id))); };
      const [old, now] = [before && before !== name ? before : job.runs[Math.max(last - 1, 0)], after || job.runs[last]];
      add(form.before, old);
      add(form.after, now);
      form.before.value = old;
      form.after.value = now;
      await compared(old, now);
    }
    const failed = (error) => { $(section, ".told").textContent = `There is no page of one of these runs any more (${error.message}).`; };
    form.addEventListener("submit", (event) => event.preventDefault());
    form.before.addEventListener("change", () => { location.hash = `${form.before.value}..${form.after.value}`; });
    form.after.addEventListener("change", () => { location.hash = `${form.before.value}..${form.after.value}`; });
    form.job?.addEventListener("change", () => { location.hash = form.job.value; });
    addEventListener("hashchange", () => start().catch(failed));
    if (jobs.length) await start().catch(failed);
  }

  document.querySelectorAll(".rows").forEach(rows);
  document.querySelectorAll("details[data-picture]").forEach((one) =>
    one.addEventListener("toggle", () => { if (one.open) unfold(one).catch(complain); }));
  const here = $(document, "#run"), two = $(document, "#compare");
  if (here) between(here).catch(complain);
  if (two) compare(two);
  addEventListener("hashchange", go);
  addEventListener("beforeprint", () => document.querySelectorAll(".legend").forEach((one) => { one.open = true; }));
  go();
  return { put, words, shifts };
})();
