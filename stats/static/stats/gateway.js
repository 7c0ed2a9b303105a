// Shared by all our pages in the admin. Data attributes turn the features on:
//   <span data-relative="2026-01-21T10:30:00Z">      shows the time relative to now, updated every second
//   <div id="dashboard" data-refresh="15">           is reloaded every 15 s with its content
//   <button data-copy="#curl" data-copied="Copied">  copies the text of another element
//   <form data-lean>                                 omits empty fields from the URL
//   <span data-count="waiting" data-counts="/url/">  shows the number of that name in the URL's JSON, updated every 30 s
"use strict";

(() => {
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  function relative(at) {
    const format = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "always", style: "short" });
    const seconds = Math.round((at - Date.now()) / 1000);
    const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) || UNITS[3];
    return format.format(Math.trunc(seconds / size), unit);
  }

  function tick() {
    for (const element of document.querySelectorAll("[data-relative]")) {
      const text = relative(new Date(element.dataset.relative));
      if (element.textContent !== text) element.textContent = text;
    }
  }

  function isInUse(element) {
    const selection = document.getSelection();
    return document.hidden
      || (element.contains(document.activeElement) && document.activeElement.matches("input, textarea, select"))
      || (selection && !selection.isCollapsed && element.contains(selection.anchorNode));
  }

  // A refresh keeps open details, scroll positions and the focus.
  function state(element) {
    const opened = [...element.querySelectorAll("details[id]")].filter((each) => each.open).map((each) => each.id);
    const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
    const scrolled = [...element.querySelectorAll("[id]")].map((each) => [each.id, each.scrollTop]).filter(([, top]) => top);
    return { opened, focused, scrolled };
  }

  function restore({ opened, focused, scrolled }) {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    for (const [id, top] of scrolled) document.getElementById(id)?.scrollTo({ top });
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  async function refresh(element) {
    if (isInUse(element)) return;
    const response = await fetch(location.href, { headers: { "X-Requested-With": "refresh" } });
    if (response.redirected || !response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById(element.id);
    if (!fresh || isInUse(element) || fresh.innerHTML === element.innerHTML) return;
    const before = state(element);
    element.innerHTML = fresh.innerHTML;
    element.dataset.refresh = fresh.dataset.refresh || "";
    restore(before);
    tick();
  }

  // The next refresh starts after the previous one, even if the server is slow. An empty interval stops it.
  function keepFresh(element) {
    const seconds = Number(element.dataset.refresh);
    if (!seconds) return;
    setTimeout(async () => {
      await refresh(element).catch(() => {}); // without a network the next refresh may succeed
      keepFresh(element);
    }, seconds * 1000);
  }

  async function copy(button) {
    await navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent);
    const label = button.textContent;
    button.textContent = button.dataset.copied;
    setTimeout(() => { button.textContent = label; }, 2000);
  }

  // The fields are enabled again for users who come back with the browser's back button.
  function leaveOutEmpty(form) {
    const empty = [...form.elements].filter((field) => field.name && !field.value);
    for (const field of empty) field.disabled = true;
    setTimeout(() => { for (const field of empty) field.disabled = false; });
  }

  async function recount() {
    const counters = document.querySelectorAll("[data-count]");
    if (document.hidden || !counters.length) return;
    const response = await fetch(counters[0].dataset.counts);
    if (response.redirected || !response.ok) return;
    const counts = await response.json();
    for (const counter of counters) counter.textContent = counts[counter.dataset.count] ?? "";
  }

  const COUNT_EVERY_MS = 30_000;

  // The browser cannot focus the field while Alpine hides the page.
  window.addEventListener("load", () => {
    if (document.activeElement === document.body) document.querySelector("[autofocus]")?.focus();
  });

  document.addEventListener("DOMContentLoaded", () => {
    document.addEventListener("submit", (event) => {
      if (event.target.matches("[data-lean]")) leaveOutEmpty(event.target);
    });
    setInterval(() => recount().catch(() => {}), COUNT_EVERY_MS);
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[data-copy]");
      if (button) copy(button);
    });
    document.querySelectorAll("[data-refresh]").forEach(keepFresh);
    tick();
    setInterval(tick, 1000);
  });
})();
