// The map of what is taken for what, on a canvas: no element per cell, so that 600 classes are light.
{
  const LEAST_SPAN = 6;
  const data = dataOf("heat-data");
  const figure = document.querySelector("[data-heat]");

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

  class HeatMap {
    constructor(place) {
      this.canvas = place.querySelector("canvas");
      this.tip = place.querySelector(".tip");
      this.about = place.querySelector("[data-about]");
      this.search = place.querySelector("input");
      this.orderChoice = place.querySelector("select");
      this.buttons = [...place.querySelectorAll("[data-system]")];
      this.names = place.querySelector("datalist");
      this.counts = data.systems.map((system) => new ConfusionCounts(system, data.class_lists[system.classes]));
      this.pointers = new Map();
      this.selected = null;
      this.connect(place);
      this.choose(0);
    }

    connect(place) {
      const { canvas } = this;
      this.buttons.forEach((button, at) => button.addEventListener("click", () => this.choose(at)));
      this.orderChoice.addEventListener("input", () => { this.setOrder(); this.draw(); });
      this.search.addEventListener("input", () => this.find());
      const steps = { in: 0.5, out: 2, all: Infinity };
      for (const button of place.querySelectorAll("[data-zoom]")) {
        button.addEventListener("click", () => this.zoom(steps[button.dataset.zoom]));
      }
      canvas.addEventListener("pointerdown", (event) => this.press(event));
      canvas.addEventListener("pointermove", (event) => this.move(event));
      for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.release(event));
      canvas.addEventListener("pointerleave", () => { if (!this.pointers.size) this.hover(null); });
      canvas.addEventListener("dblclick", (event) => this.zoom(0.4, this.cellAt(event)));
      canvas.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
        event.preventDefault();
        this.zoom(Math.exp(clamp(event.deltaY, -80, 80) / 160), this.cellAt(event));
      }, { passive: false });
      canvas.addEventListener("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.draw()).observe(canvas);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    }

    choose(at) {
      const before = this.now;
      this.now = this.counts[at];
      this.buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(place === at)));
      if (before?.classes !== this.now.classes) {
        this.view = { x: 0, y: 0, span: this.now.size };
        this.selected = null;
        this.names.replaceChildren(...this.now.classes.map((name) => new Option(name, name)));
      }
      this.setOrder();
      this.tell();
      this.draw();
    }

    setOrder() {
      this.order = this.now.orders[this.orderChoice.value];
      this.placeOf = new Array(this.now.size);
      this.order.forEach((name, place) => { this.placeOf[name] = place; });
      if (this.selected !== null) this.goTo(this.selected);
    }

    get area() {
      const width = this.canvas.clientWidth;
      const left = width < 520 ? 78 : 132, bottom = width < 520 ? 82 : 120;
      return { width, left, bottom, top: 7, side: width - left - 2, letters: width < 520 ? 10 : 19 };
    }

    get cell() { return this.area.side / this.view.span; }

    // Where an event is: places of the row and the column, with fractions.
    cellAt(event) {
      const box = this.canvas.getBoundingClientRect();
      return {
        x: (event.clientX - box.left - this.area.left) / this.cell + this.view.x,
        y: (event.clientY - box.top - this.area.top) / this.cell + this.view.y,
      };
    }

    zoom(factor, at) {
      const { view } = this, middle = at ?? { x: view.x + view.span / 2, y: view.y + view.span / 2 };
      const span = clamp(view.span * factor, Math.min(LEAST_SPAN, this.now.size), this.now.size);
      const part = span / view.span;
      this.look(middle.x - (middle.x - view.x) * part, middle.y - (middle.y - view.y) * part, span);
    }

    look(x, y, span) {
      const most = this.now.size - span;
      this.view = { x: clamp(x, 0, most), y: clamp(y, 0, most), span };
      this.canvas.style.touchAction = span < this.now.size ? "none" : "pan-y";
      this.draw();
    }

    goTo(name) {
      const span = Math.min(this.now.size, Math.min(this.view.span, 28)), place = this.placeOf[name] + 0.5;
      this.look(place - span / 2, place - span / 2, span);
    }

    find() {
      const wanted = this.search.value.trim().toLowerCase();
      const { classes } = this.now;
      if (!wanted) { this.select(null); return; }
      const exact = classes.findIndex((name) => name.toLowerCase() === wanted);
      const near = classes.findIndex((name) => name.toLowerCase().includes(wanted));
      const found = exact >= 0 ? exact : near;
      this.search.setAttribute("aria-invalid", String(found < 0));
      if (found >= 0) this.select(found);
    }

    select(name) {
      this.selected = name;
      this.search.removeAttribute("aria-invalid");
      this.tell();
      if (name === null) this.zoom(Infinity);
      else this.goTo(name);
    }

    press(event) {
      this.canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
      this.pressed = { event, view: { ...this.view }, moved: false };
    }

    move(event) {
      if (!this.pointers.has(event.pointerId)) { this.hover(event); return; }
      const before = this.pointers.get(event.pointerId);
      this.pointers.set(event.pointerId, event);
      if (this.pointers.size === 2) { this.pinch(before, event); return; }
      const dx = event.clientX - this.pressed.event.clientX, dy = event.clientY - this.pressed.event.clientY;
      if (Math.hypot(dx, dy) > 4) this.pressed.moved = true;
      if (this.pressed.moved) {
        const { view } = this.pressed;
        this.look(view.x - dx / this.cell, view.y - dy / this.cell, view.span);
      }
    }

    pinch(before, event) {
      this.pressed.moved = true;
      const [other] = [...this.pointers.values()].filter((pointer) => pointer.pointerId !== event.pointerId);
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
      this.zoom(apart(before) / apart(event), this.cellAt(middle));
    }

    release(event) {
      if (this.pointers.delete(event.pointerId) && !this.pressed.moved && event.type === "pointerup") this.hover(event);
      if (this.pointers.size === 0 && !this.pressed?.moved && event.type === "pointerup") this.pick(event);
    }

    pick(event) {
      const pair = this.pairAt(event);
      if (pair && this.now.rows[pair.row].has(pair.column)) { this.selected = pair.row; this.tell(); this.draw(); }
    }

    pairAt(event) {
      const { x, y } = this.cellAt(event), { view } = this;
      const inside = x >= view.x && y >= view.y && x < view.x + view.span && y < view.y + view.span;
      return inside ? { row: this.order[Math.floor(y)], column: this.order[Math.floor(x)] } : null;
    }

    hover(event) {
      const pair = event && this.pairAt(event);
      this.tip.hidden = !pair;
      this.pointed = pair;
      this.draw();
      if (!pair) return;
      this.tip.textContent = this.words(pair);
      const box = this.canvas.getBoundingClientRect(), { width } = this.area;
      const x = event.clientX - box.left, half = this.tip.offsetWidth / 2;
      this.tip.style.left = `${clamp(x, half, width - half)}px`;
      this.tip.style.top = `${event.clientY - box.top + 18}px`;
    }

    words({ row, column }) {
      const { classes, support } = this.now, clips = this.now.rows[row].get(column) ?? 0;
      const of = `${clips} of ${support[row]}` + (clips ? ` (${percent(clips / support[row])})` : "");
      return row === column ? `${classes[row]}: ${of} right` : `${classes[row]} taken for ${classes[column]}: ${of}`;
    }

    key(event) {
      const { view } = this, step = view.span / 8;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      const steps = { "+": 0.5, "=": 0.5, "-": 2, 0: Infinity };
      if (event.key in moves && view.span < this.now.size) this.look(view.x + moves[event.key][0], view.y + moves[event.key][1], view.span);
      else if (event.key in steps) this.zoom(steps[event.key]);
      else return;
      event.preventDefault();
    }

    tell() {
      if (this.selected === null) { this.about.replaceChildren(); return; }
      const { classes, support } = this.now, name = this.selected;
      const list = (title, pairs) => {
        const items = pairs.slice(0, 8).map(([other, clips]) => {
          const button = element("button", { type: "button" }, classes[other]);
          button.addEventListener("click", () => { this.search.value = classes[other]; this.select(other); });
          return element("li", {}, button, ` ${clips}`);
        });
        return element("div", {}, element("b", {}, title), items.length ? element("ol", {}, ...items) : element("p", {}, "nothing"));
      };
      const right = support[name] ? `${this.now.rows[name].get(name) ?? 0} of ${support[name]} clips right` : "no clip";
      this.about.replaceChildren(
        element("p", {}, element("b", {}, classes[name]), `: ${right}`),
        list("is taken for", this.now.takenFor(name)),
        list("what is taken for it", this.now.takenFrom(name)),
      );
    }

    draw() {
      this.drawing ??= requestAnimationFrame(() => { this.drawing = null; this.paint(); });
    }

    paint() {
      const { canvas, area } = this, scale = devicePixelRatio;
      if (area.side < 40) return;
      const height = area.top + area.side + area.bottom;
      canvas.style.height = `${height}px`;
      canvas.width = area.width * scale;
      canvas.height = height * scale;
      const pen = canvas.getContext("2d");
      pen.scale(scale, scale);
      const style = getComputedStyle(this.buttons[this.counts.indexOf(this.now)]);
      const names = ["c", "bad", "ground", "ink", "muted", "accent"];
      const colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
      const { view, now, order, placeOf, pointed, selected } = this;
      new ConfusionPicture({ pen, area, colours, view, now, order, placeOf, pointed, selected }).paint();
    }
  }

  if (data && figure) new HeatMap(figure);
}
