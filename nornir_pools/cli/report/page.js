"use strict";
// What the timeline tells of the task under the pointer, and closer looks. All texts are set as text, never as markup.
(function () {
  const source = document.getElementById("tasks"), chart = document.getElementById("timeline");
  if (!source || !chart) return;
  const run = JSON.parse(source.textContent), tip = document.getElementById("tip"), axis = document.getElementById("axis");
  const whole = [0, run.span], ticks = [...axis.children];
  const strips = [chart, ...document.querySelectorAll(".strip svg")];
  let shown = whole, from = null;

  function time(seconds) {
    if (seconds === null) return "-";
    if (seconds < 10) return seconds.toFixed(seconds < 0.1 ? 3 : 1) + " s";
    const whole = Math.round(seconds), two = (number) => String(number).padStart(2, "0");
    if (whole < 60) return whole + " s";
    if (whole < 3600) return Math.floor(whole / 60) + "m" + two(whole % 60) + "s";
    return Math.floor(whole / 3600) + "h" + two(Math.floor((whole % 3600) / 60)) + "m" + two(whole % 60) + "s";
  }
  function moment(event) {
    const box = chart.getBoundingClientRect();
    return shown[0] + (shown[1] - shown[0]) * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  }
  // The task of that line that ran then, or the nearest one within some pixels.
  function find(event) {
    const box = chart.getBoundingClientRect(), lane = run.lanes[Math.floor((event.clientY - box.top) / run.height)];
    if (!lane) return null;
    const at = moment(event);
    let low = 0, high = lane.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (lane[middle][0] <= at) low = middle; else high = middle - 1;
    }
    let best = null, distance = 4 * (shown[1] - shown[0]) / box.width;
    for (const task of lane.slice(low, low + 2)) {
      const off = Math.max(task[0] - at, at - task[1], 0);
      if (off <= distance) { best = task; distance = off; }
    }
    return best;
  }
  function words([start, end, waited, number, name, command, state, cpu, memory, node, job]) {
    const lines = [number + "  " + name];
    if (command) lines.push(command);
    lines.push(state + ", " + time(end - start) + " from +" + time(start) + ", waited " + time(waited));
    if (cpu !== null) lines.push("CPU " + time(cpu) + (memory ? ", memory " + (memory / 1e6).toFixed(0) + " MB" : ""));
    lines.push("job " + job + (node ? " on " + node : ""));
    return lines.join("\n");
  }
  function show(begin, end) {
    shown = [begin, end];
    const left = begin / run.span * 10000, width = (end - begin) / run.span * 10000;
    for (const svg of strips) svg.setAttribute("viewBox", [left, 0, width, svg.viewBox.baseVal.height].join(" "));
    if (begin === whole[0] && end === whole[1]) { axis.replaceChildren(...ticks); return; }
    axis.replaceChildren(...[0, 1, 2, 3, 4, 5].map((number) => {
      const mark = document.createElement("span");
      mark.style.left = number / 6 * 100 + "%";
      mark.textContent = "+" + time(begin + number / 6 * (end - begin));
      return mark;
    }));
  }
  chart.addEventListener("pointermove", (event) => {
    const task = find(event);
    tip.hidden = !task;
    if (!task) return;
    tip.textContent = words(task);
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
  });
  chart.addEventListener("pointerleave", () => { tip.hidden = true; });
  chart.addEventListener("pointerdown", (event) => { from = moment(event); event.preventDefault(); });
  chart.addEventListener("pointerup", (event) => {
    const to = moment(event), [begin, end] = [Math.min(from, to), Math.max(from, to)];
    if (from !== null && end - begin > (shown[1] - shown[0]) / 100) show(begin, end);
    from = null;
  });
  chart.addEventListener("dblclick", () => show(...whole));
  document.documentElement.dataset.ready = String(run.lanes.length);
})();
