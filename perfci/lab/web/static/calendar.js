// Makes the calendar quicker to use. Without it every page works by links and forms alone.
"use strict";

const MINUTE = 60000;

/* Selects that send their form at once; the browser's own time zone is offered. */
for (const select of document.querySelectorAll("select[data-send]")) {
  const form = select.form;
  if (select.name === "zone") {
    const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (own && ![...select.options].some((one) => one.value === own)) {
      select.add(new Option(`${own} (this browser's)`, own));
    }
    form.querySelector("button.plain").hidden = true;
  }
  select.addEventListener("change", () => form.requestSubmit());
}

/* Empty filters stay out of the URL. */
for (const form of document.querySelectorAll("form.filters")) {
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
}

/* Pages that show the present load again, unless somebody is busy with them. */
const seconds = Number(document.body.dataset.refresh || 0);
if (seconds) {
  setInterval(() => {
    const busy = document.hidden || document.querySelector("dialog[open], .picking")
      || document.activeElement?.matches("input, select, textarea, .slot");
    if (!busy) location.reload();
  }, seconds * 1000);
}

const sheet = document.querySelector(".sheet");
if (sheet) {
  moveByArrows(sheet);
  startAtNow(sheet);
  const dialog = document.querySelector("#book");
  if (dialog) pickByPointer(sheet, dialog);
}

/* One stop of the Tab key for the whole calendar; arrows move within it. */
function moveByArrows(sheet) {
  const rows = [...sheet.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("th a, a.slot")]);
  const all = rows.flat();
  if (!all.length) return;
  const middle = (one) => { const box = one.getBoundingClientRect(); return box.left + box.width / 2; };
  const hold = (one) => { for (const other of all) other.tabIndex = other === one ? 0 : -1; };
  hold(all[0]);
  sheet.addEventListener("focusin", (event) => { if (all.includes(event.target)) hold(event.target); });
  sheet.addEventListener("keydown", (event) => {
    const row = rows.findIndex((some) => some.includes(event.target));
    if (row < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const place = rows[row].indexOf(event.target);
    let next;
    if (event.key === "ArrowRight") next = rows[row][place + 1];
    else if (event.key === "ArrowLeft") next = rows[row][place - 1];
    else if (event.key === "Home") next = rows[row][0];
    else if (event.key === "End") next = rows[row].at(-1);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const other = rows[row + (event.key === "ArrowDown" ? 1 : -1)];
      const here = middle(event.target);
      const distance = (one) => {
        const box = one.getBoundingClientRect();
        return box.left <= here && here <= box.right ? 0 : Math.min(Math.abs(box.left - here), Math.abs(box.right - here));
      };
      next = place ? other?.slice(1).sort((a, b) => distance(a) - distance(b))[0] ?? other?.[0] : other?.[0];
    } else return;
    event.preventDefault();
    next?.focus();
  });
}

/* Where the calendar is wider than the screen, now is in sight. */
function startAtNow(sheet) {
  const now = sheet.querySelector(".overlay .now");
  const scroll = sheet.parentElement;
  if (now && scroll.scrollWidth > scroll.clientWidth) {
    scroll.scrollLeft = Math.max(0, now.offsetLeft - scroll.clientWidth / 4);
  }
}

/* A click or a drag over free time opens the form, filled in. Touch follows the link and can scroll. */
function pickByPointer(sheet, dialog) {
  const begin = Date.parse(sheet.dataset.from);
  const end = Date.parse(sheet.dataset.until);
  const rows = [...sheet.querySelectorAll("tbody tr")];
  const form = dialog.querySelector("form");
  const zone = form.elements.zone.value;
  const days = (end - begin) / MINUTE / 1440;
  const step = (days <= 3 ? 30 : 60) * MINUTE;
  const words = new Intl.DateTimeFormat("en-GB", {
    weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: zone,
  });
  let picked = null;
  let dragged = false;

  const timeAt = (x) => {
    const box = rows[0].querySelector(".track").getBoundingClientRect();
    return begin + Math.min(1, Math.max(0, (x - box.left) / box.width)) * (end - begin);
  };
  const rowAt = (y) => {
    const found = rows.findIndex((row) => y < row.getBoundingClientRect().bottom);
    return found < 0 ? rows.length - 1 : found;
  };
  const round = (time) => Math.floor(time / step) * step;

  sheet.addEventListener("pointerdown", (event) => {
    const slot = event.target.closest("a.slot.free");
    if (!slot || event.button !== 0 || event.pointerType === "touch" || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    dragged = false;
    picked = { slot, x: event.clientX, row: rowAt(event.clientY), time: timeAt(event.clientX), box: null };
    sheet.setPointerCapture(event.pointerId);
  });
  sheet.addEventListener("pointermove", (event) => {
    if (!picked) return;
    const row = rowAt(event.clientY);
    if (!picked.box && Math.abs(event.clientX - picked.x) < 5 && row === picked.row) return;
    dragged = true;
    picked.box ??= sheet.appendChild(Object.assign(document.createElement("div"), { className: "picking" }));
    draw(Object.assign(picked, span(picked.time, timeAt(event.clientX)), { last: row }));
  });
  sheet.addEventListener("pointerup", (event) => {
    if (!picked) return;
    const now = picked;
    picked = null;
    now.box?.remove();
    if (dragged) {
      const [first, last] = [now.row, now.last].sort((a, b) => a - b);
      open(rows.slice(first, last + 1).map((row) => row.dataset.node), now.from, now.until);
    } else {
      const free = Date.parse(now.slot.dataset.from);
      const until = Date.parse(now.slot.dataset.until || sheet.dataset.until);
      const from = Math.max(free, round(now.time));
      open([rows[now.row].dataset.node], from, now.slot.dataset.until ? Math.min(until, from + 240 * MINUTE) : from + 240 * MINUTE);
    }
  });
  sheet.addEventListener("pointercancel", () => { picked?.box?.remove(); picked = null; });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && picked) { picked.box?.remove(); picked = null; }
  });
  // The link behind a slot is for the keyboard, touch and new tabs: here the pointer has done its work.
  sheet.addEventListener("click", (event) => {
    const slot = event.target.closest("a.slot.free");
    if (!slot || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.pointerType === "touch") return;
    event.preventDefault();
    if (event.detail === 0) {
      const free = Date.parse(slot.dataset.from);
      const until = slot.dataset.until ? Date.parse(slot.dataset.until) : Infinity;
      open([slot.closest("tr").dataset.node], free, Math.min(until, free + 240 * MINUTE));
    }
  });

  function span(one, other) {
    const [from, until] = [Math.min(one, other), Math.max(one, other)];
    return { from: Math.max(Date.now(), round(from)), until: Math.max(round(until) + step, round(from) + step) };
  }

  function draw({ box, row, last, from, until }) {
    const [first, final] = [row, last].sort((a, b) => a - b).map((one) => rows[one].querySelector(".track"));
    const frame = sheet.getBoundingClientRect();
    const [top, bottom] = [first.getBoundingClientRect(), final.getBoundingClientRect()];
    const x = (time) => top.left - frame.left + (top.width * (time - begin)) / (end - begin);
    box.style.left = `${x(from)}px`;
    box.style.width = `${Math.max(2, x(Math.min(until, end)) - x(from))}px`;
    box.style.top = `${top.top - frame.top + 3}px`;
    box.style.height = `${bottom.bottom - top.top - 6}px`;
    box.classList.toggle("low", row === 0 || last === 0);
    const count = Math.abs(row - last) + 1;
    const label = document.createElement("span");
    label.textContent = `${count > 1 ? `${count} nodes, ` : ""}${lasting(until - from)} from ${words.format(from)}`;
    box.replaceChildren(label);
  }

  function open(nodes, from, until) {
    const fields = form.elements;
    const [length, unit] = parts(until - from);
    fields.by.value = "names";
    fields.nodes.value = nodes.join(", ");
    fields.when.value = from - Date.now() < MINUTE ? "soon" : "at";
    fields.start.value = local(Math.max(from, Date.now()));
    fields.namedItem("length").value = length;
    fields.unit.value = unit;
    dialog.querySelector("[data-picked]").textContent = nodes.length > 3 ? `${nodes.length} nodes` : nodes.join(", ");
    dialog.querySelector("[data-span]").textContent = `${words.format(from)} to ${words.format(until)}, ${zone}`;
    dialog.showModal();
    fields.reason.focus();
  }
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());

  function parts(length) {
    const minutes = Math.max(1, Math.round(length / MINUTE));
    if (minutes % 1440 === 0) return [minutes / 1440, "days"];
    return minutes % 60 === 0 ? [minutes / 60, "hours"] : [minutes, "minutes"];
  }

  function lasting(length) {
    const [count, unit] = parts(length);
    return `${count} ${count === 1 ? unit.slice(0, -1) : unit}`;
  }

  /* What a clock in the page's zone shows, as a field `datetime-local` wants it. */
  function local(time) {
    const shown = new Intl.DateTimeFormat("sv-SE", {
      timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
    }).format(Math.ceil(time / MINUTE) * MINUTE);
    return shown.replace(" ", "T");
  }
}
