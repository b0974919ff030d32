// SPDX-License-Identifier: LGPL-2.1-or-later
"use strict";
(() => {
  const PAGE_SIZE = 4096;
  const ROWS = 100;
  const SEARCHED = ["hstate", "node", "state", "flag_optimized", "verdict", "layout", "mapped_by"];

  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("data").textContent);
  const count = data.count;
  const traits = data.traits;

  // The folios, a column for each value that each folio has of its own: see listing.py.
  const unpack = (packed) => {
    const column = new Float64Array(count);
    let value = 0, row = 0;
    for (let index = 0; index < packed.length; index += 2) {
      for (let times = packed[index + 1]; times > 0; times--) column[row++] = value += packed[index];
    }
    return column;
  };
  const columns = {
    pfn: unpack(data.pfns),
    reuse_frame: unpack(data.reuse_frames),
    findings: unpack(data.findings),
    worst: unpack(data.worst),
  };
  const numbers = unpack(data.numbers);
  const end = (row) => columns.pfn[row] + traits[numbers[row]].pages;
  const hex = (value) => "0x" + value.toString(16);
  const valueOf = (row, key) => key in columns ? columns[key][row] : traits[numbers[row]][key];

  const textOf = (row, key) => {
    const value = valueOf(row, key);
    if (key === "pfn" || (key === "reuse_frame" && value >= 0)) return hex(value);
    return key === "reuse_frame" || (key === "findings" && !value) ? "-" : String(value);
  };

  const size = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    for (; bytes.toFixed(1) >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
    return `${Number.isInteger(bytes) ? bytes : bytes.toFixed(1)} ${units[unit]}`;
  };

  // The table.

  const table = at("table");
  const headers = [...table.querySelectorAll("th[data-key]")];
  let sorted = { key: "pfn", sign: 1 };
  let shown = Uint32Array.from({ length: count }, (_, row) => row);
  let first = 0;

  const searchable = traits.map((trait) =>
    SEARCHED.map((key) => (key === "node" ? `node${trait.node}` : String(trait[key])).toLowerCase()));

  // Make a word a test for folios: one of their texts begins with it, or a PFN is theirs.
  const asks = (word) => {
    const wanted = searchable.map((texts) => texts.some((text) => text.startsWith(word)));
    const pfns = word.match(/^(0x[0-9a-f]+|[0-9]+)(?:-(0x[0-9a-f]+|[0-9]+))?$/);
    if (pfns === null) return (row) => wanted[numbers[row]];
    const from = Number(pfns[1]), to = Number(pfns[2] ?? pfns[1]);
    const reuse = pfns[2] === undefined ? from : NaN;
    return (row) => wanted[numbers[row]] || (columns.pfn[row] <= to && end(row) > from) || columns.reuse_frame[row] === reuse;
  };

  const sortValues = (key) => {
    if (key in columns) return columns[key];
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1;
    const distinct = [...new Set(traits.map((trait) => trait[key]))].sort(compare);
    const ranks = traits.map((trait) => distinct.indexOf(trait[key]));
    return Float64Array.from(numbers, (number) => ranks[number]);
  };

  const select = () => {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean).map(asks);
    const rows = [];
    for (let row = 0; row < count; row++) if (words.every((fits) => fits(row))) rows.push(row);
    shown = Uint32Array.from(rows);
    const values = sortValues(sorted.key);
    shown.sort((a, b) => sorted.sign * (values[a] - values[b]) || a - b);
    first = 0;
    fill();
  };

  const fill = () => {
    const body = document.createElement("tbody");
    for (const row of shown.subarray(first, first + ROWS)) {
      const line = body.insertRow();
      for (const header of headers) {
        const cell = line.insertCell();
        const key = header.dataset.key;
        cell.textContent = textOf(row, key);
        cell.dataset.name = header.textContent;
        cell.className = key === "verdict" ? valueOf(row, key) : header.className;
      }
    }
    table.tBodies[0].replaceWith(body);
    for (const header of headers) {
      if (header.dataset.key !== sorted.key) header.removeAttribute("aria-sort");
      else header.setAttribute("aria-sort", sorted.sign > 0 ? "ascending" : "descending");
    }
    const last = Math.min(first + ROWS, shown.length);
    const [from, to, some, all] = [first + 1, last, shown.length, count].map((n) => n.toLocaleString("en"));
    if (count === 0) at("status").textContent = "0 folios.";
    else if (shown.length === 0) at("status").textContent = `No folio matches, of ${all}.`;
    else at("status").textContent = `Folios ${from} to ${to} of ${some}${some === all ? "" : ` that match, of ${all}`}.`;
    for (const button of at("pager").children) {
      button.disabled = ["first", "previous"].includes(button.dataset.step) ? first === 0 : last >= shown.length;
    }
  };

  const search = (text) => {
    at("search").value = text;
    select();
  };

  for (const header of headers) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => {
      const key = header.dataset.key;
      sorted = { key, sign: key === sorted.key ? -sorted.sign : 1 };
      select();
    });
    header.replaceChildren(button);
  }
  let waiting = 0;
  at("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(select, 150);
  });
  at("pager").addEventListener("click", (event) => {
    const lastPage = Math.max(0, Math.ceil(shown.length / ROWS) - 1) * ROWS;
    const steps = { first: 0, previous: first - ROWS, next: first + ROWS, last: lastPage };
    if (!(event.target.dataset.step in steps)) return;
    first = Math.min(Math.max(steps[event.target.dataset.step], 0), lastPage);
    fill();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-search]");
    if (link) search(link.dataset.search);
  });
  at("controls").hidden = false;
  at("pager").hidden = count <= ROWS;
  fill();

  // The map: all of it is in the page; parts of it are drawn here.

  const svg = at("map-picture");
  if (svg === null) return;
  const LEFT = 150, WIDTH = 896;
  const picture = svg.querySelector("g");
  const frame = at("map-frame");
  const tooltip = at("tooltip");
  const views = [{
    span: Number(svg.dataset.span),
    columns: data.columns,
    box: svg.getAttribute("viewBox"),
    nodes: [...picture.childNodes],
  }];
  let cells = [];
  let current = -1;

  const element = (name, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    made.textContent = text;
    return made;
  };
  const cursor = element("rect", { class: "cursor" });

  const NAMES = data.states.map(([name]) => name);
  const [OPTIMIZED, PARTLY, OTHER, HOLE] = ["optimized", "partly", "other", "hole"].map((name) => NAMES.indexOf(name));

  // The cells of some memory, as analysis/map.py makes them: each shows the lowest of the states in it.
  const cellsOf = (from, to, span) => {
    const cells = Array.from({ length: (to - from) / span }, (_, index) =>
      ({ begin: from + index * span, state: HOLE, huge: 0, optimized: 0, findings: 0, folios: new Map() }));
    const covered = (start, stop) =>
      cells.slice(Math.max(0, Math.floor((start - from) / span)), Math.max(0, Math.ceil((stop - from) / span)));
    const paint = (cell, state) => { cell.state = Math.min(cell.state, state); };
    for (const [state, start, stop] of data.memory) for (const cell of covered(start, stop)) paint(cell, state);
    for (const [state, start, stop] of data.places) {
      for (const cell of covered(start, stop)) {
        paint(cell, state);
        cell.findings += 1;
      }
    }
    for (let row = firstIn(from); row < count && columns.pfn[row] < to; row++) {
      const number = numbers[row], state = data.trait_states[number], pages = Math.min(traits[number].pages, span);
      for (const cell of covered(columns.pfn[row], end(row))) {
        paint(cell, Math.min(state, columns.worst[row]));
        cell.huge += pages;
        if (state === OPTIMIZED) cell.optimized += pages;
        cell.findings += columns.findings[row];
        cell.folios.set(number, (cell.folios.get(number) ?? 0) + 1);
      }
    }
    for (const cell of cells) if (cell.state === OPTIMIZED && cell.optimized < cell.huge) cell.state = PARTLY;
    return cells;
  };

  // The first folio with pages from a PFN on.
  const firstIn = (pfn) => {
    let low = 0, high = count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (end(middle) > pfn) high = middle;
      else low = middle + 1;
    }
    return low;
  };

  const textOfCell = (cell, span) => {
    const verdicts = new Map();
    const folios = [...cell.folios].sort(([one], [other]) => one - other);
    for (const [number, times] of folios) {
      verdicts.set(traits[number].verdict, (verdicts.get(traits[number].verdict) ?? 0) + times);
    }
    let parts = [...verdicts].map(([verdict, times]) => `${times} ${verdict}`);
    if (folios.length === 1 && folios[0][1] === 1) parts = [data.abouts[folios[0][0]]];
    if (parts.length === 0) parts = [data.states[cell.state][1]];
    if (cell.findings) parts.push(`findings: ${cell.findings}`);
    return `PFN ${hex(cell.begin)} to ${hex(cell.begin + span - 1)}, ${size(span * PAGE_SIZE)}: ${parts.join(", ")}`;
  };

  const drawn = (from, to) => {
    let span = data.unit;
    while ((to - from) / span > 4096) span *= 2;
    const wide = (to - from) / span <= data.columns;
    const across = wide ? data.columns / 4 : data.columns;
    // Where there is space, each cell has its PFN below it.
    const pitch = WIDTH / across, height = wide ? 42 : 15, inner = wide ? 26 : 13;
    const nodes = [];
    for (let row = from; row < to; row += span * across) {
      const y = 2 + (row - from) / (span * across) * height;
      nodes.push(element("text", { x: LEFT - 8, y: y + inner / 2 + 3, class: "label" }, `${hex(row)} · ${size(row * PAGE_SIZE)}`));
    }
    cellsOf(from, to, span).forEach((cell, index) => {
      if (cell.state === HOLE) return;
      const row = Math.floor(index / across);
      const x = LEFT + (index - row * across) * pitch, y = 2 + row * height;
      nodes.push(element("rect", { x, y, width: pitch - 1, height: inner, class: "track" }));
      if (cell.state === OTHER) return;
      const filled = Math.max(3, inner * (Math.min(1, cell.huge / span) || 1));
      const rect = element("rect", {
        x, y: y + inner - filled, width: pitch - 1, height: filled,
        class: `cell ${NAMES[cell.state]}`, "data-pfn": cell.begin, "data-row": from + row * span * across,
      });
      rect.append(element("title", {}, textOfCell(cell, span)));
      nodes.push(rect);
      if (wide) nodes.push(element("text", { x: x + pitch / 2, y: y + inner + 10, class: "name" }, hex(cell.begin)));
    });
    const box = `0 0 ${svg.viewBox.baseVal.width} ${4 + Math.ceil((to - from) / (span * across)) * height}`;
    const what = `PFN ${hex(from)} to ${hex(to - 1)}, ${size((to - from) * PAGE_SIZE)}`;
    return { span, columns: across, box, nodes, what };
  };

  const show = () => {
    const view = views[views.length - 1];
    svg.setAttribute("viewBox", view.box);
    picture.replaceChildren(...view.nodes);
    cells = [...picture.querySelectorAll(".cell")];
    current = -1;
    tooltip.hidden = true;
    for (const cell of cells) {
      // The browser would show it beside our own.
      const title = cell.querySelector("title");
      if (title === null) continue;
      cell.dataset.text = title.textContent;
      title.remove();
    }
    at("map-output").textContent = "";
    at("map-view").textContent = views.length === 1 ? "This is the whole map."
      : `This is a part of the map: ${view.what}; a cell is ${size(view.span * PAGE_SIZE)}.`;
    for (const button of at("map-controls").querySelectorAll("button")) {
      button.disabled = button.dataset.zoom !== "in" && views.length === 1;
    }
  };

  const point = (index) => {
    const cell = cells[index];
    if (cell === undefined) return;
    current = index;
    for (const key of ["x", "y", "width", "height"]) cursor.setAttribute(key, cell.getAttribute(key));
    picture.append(cursor);
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    at("map-output").textContent = cell.dataset.text;
    const box = cell.getBoundingClientRect();
    describe(cell, box.left + window.scrollX, box.bottom + window.scrollY);
  };

  const describe = (cell, x, y) => {
    tooltip.textContent = cell.dataset.text;
    tooltip.hidden = false;
    const right = document.documentElement.clientWidth - tooltip.offsetWidth - 8;
    tooltip.style.left = `${Math.max(0, Math.min(x + 12, right))}px`;
    tooltip.style.top = `${y + 14}px`;
  };

  const zoomIn = (cell) => {
    if (cell === undefined) return;
    const view = views[views.length - 1];
    const pfn = Number(cell.dataset.pfn);
    if (view.columns < data.columns) {
      tooltip.hidden = true;
      search(hex(pfn));
      at("search").focus();
      return;
    }
    const from = Number(cell.dataset.row);
    views.push(drawn(from, from + view.span * view.columns));
    show();
    point(Math.max(0, cells.findIndex((inner) => Number(inner.dataset.pfn) >= pfn)));
  };

  const zoomOut = (to) => {
    views.length = Math.max(1, to);
    show();
  };

  // The nearest cell in the next row up or down.
  const beside = (step) => {
    const place = (cell) => ({ x: cell.x.baseVal.value, y: cell.y.baseVal.value + cell.height.baseVal.value });
    const from = place(cells[current]);
    let best = current, least = Infinity;
    cells.forEach((cell, index) => {
      const to = place(cell);
      const distance = (to.y - from.y) * step * 10000 + Math.abs(to.x - from.x);
      if ((to.y - from.y) * step > 1 && distance < least) [best, least] = [index, distance];
    });
    return best;
  };

  const keys = {
    ArrowLeft: () => point(Math.max(0, current - 1)),
    ArrowRight: () => point(Math.min(cells.length - 1, current + 1)),
    ArrowUp: () => point(current < 0 ? 0 : beside(-1)),
    ArrowDown: () => point(current < 0 ? 0 : beside(1)),
    Enter: () => zoomIn(cells[Math.max(0, current)]),
    Escape: () => zoomOut(views.length - 1),
  };
  frame.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  frame.addEventListener("blur", () => { tooltip.hidden = true; });
  svg.addEventListener("pointermove", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) describe(cell, event.pageX, event.pageY);
    else tooltip.hidden = true;
  });
  svg.addEventListener("pointerleave", () => { tooltip.hidden = true; });
  svg.addEventListener("click", (event) => zoomIn(event.target.closest(".cell") ?? undefined));
  at("map-controls").addEventListener("click", (event) => {
    const steps = { in: () => zoomIn(cells[Math.max(0, current)]), out: () => zoomOut(views.length - 1), whole: () => zoomOut(1) };
    steps[event.target.dataset.zoom]?.();
  });
  at("map-controls").hidden = false;
  show();
})();
