// Draws a part of the map of confusions. `area` says where in the canvas, in pixels; `view` which part, in classes;
// `now` has the counts, `order` the classes in the order of the map, `placeOf` the place of each.
const MOST_SHADES = 12, LABEL_PX = 12;

class ConfusionPicture {
  constructor(parts) {
    Object.assign(this, parts);
    this.cell = this.area.side / this.view.span;
  }

  paint() {
    this.paintCells();
    this.paintLabels();
  }

  paintCells() {
    const { pen, area, view, colours, now, order, cell } = this;
    pen.save();
    pen.translate(area.left, area.top);
    pen.fillStyle = colours.ground;
    pen.fillRect(0, 0, area.side, area.side);
    pen.beginPath();
    pen.rect(0, 0, area.side, area.side);
    pen.clip();
    this.paintCross();
    // The strongest come last, so that they stay seen where cells are smaller than a pixel.
    const shades = Array.from({ length: 2 * MOST_SHADES }, () => []);
    for (let y = Math.floor(view.y); y < Math.min(now.size, view.y + view.span); y += 1) {
      for (const [column, clips] of now.rows[order[y]]) {
        const x = this.placeOf[column];
        if (x + 1 < view.x || x > view.x + view.span) continue;
        const shade = Math.min(MOST_SHADES - 1, Math.floor(Math.sqrt(clips / now.support[order[y]]) * MOST_SHADES));
        shades[2 * shade + (x === y ? 0 : 1)].push(x, y);
      }
    }
    const size = Math.max(cell - (cell > 5 ? 1 : 0), 1.2);
    shades.forEach((places, shade) => {
      pen.fillStyle = shade % 2 ? colours.bad : colours.c;
      pen.globalAlpha = 0.25 + 0.75 * ((shade >> 1) + 1) / MOST_SHADES;
      for (let at = 0; at < places.length; at += 2) {
        pen.fillRect((places[at] - view.x) * cell, (places[at + 1] - view.y) * cell, size, size);
      }
    });
    pen.globalAlpha = 1;
    if (cell >= 17) this.paintCounts();
    pen.restore();
  }

  paintCross() {
    const { pen, area, view, cell, pointed, selected } = this;
    pen.fillStyle = this.colours.accent;
    pen.globalAlpha = 0.18;
    const rows = [pointed?.row, selected], columns = [pointed?.column, selected];
    const thick = Math.max(cell, 1.5);
    for (const name of rows) if (name != null) pen.fillRect(0, (this.placeOf[name] - view.y) * cell, area.side, thick);
    for (const name of columns) if (name != null) pen.fillRect((this.placeOf[name] - view.x) * cell, 0, thick, area.side);
    pen.globalAlpha = 1;
  }

  paintCounts() {
    const { pen, view, cell, now, order } = this;
    pen.fillStyle = this.colours.ink;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.font = `${Math.min(13, cell * 0.5)}px system-ui, sans-serif`;
    for (let y = Math.floor(view.y); y < Math.min(now.size, view.y + view.span); y += 1) {
      for (const [column, clips] of now.rows[order[y]]) {
        const x = this.placeOf[column] - view.x;
        if (x > -1 && x < view.span) pen.fillText(clips, (x + 0.5) * cell, (y - view.y + 0.5) * cell);
      }
    }
  }

  paintLabels() {
    const { pen, area, view, cell, now } = this;
    const step = Math.max(1, Math.ceil(LABEL_PX / cell));
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (let place = Math.ceil(view.y / step) * step; place < Math.min(now.size, view.y + view.span); place += step) {
      const y = (place + 0.5 - view.y) * cell;
      if (y <= area.side) this.paintLabel(place, area.left - 6, area.top + y, 0);
    }
    for (let place = Math.ceil(view.x / step) * step; place < Math.min(now.size, view.x + view.span); place += step) {
      const x = (place + 0.5 - view.x) * cell;
      if (x <= area.side) this.paintLabel(place, area.left + x, area.top + area.side + 8, -Math.PI / 2);
    }
  }

  paintLabel(place, x, y, turn) {
    const { pen, area, colours, now } = this, name = this.order[place], text = now.classes[name];
    pen.save();
    pen.translate(x, y);
    pen.rotate(turn);
    pen.fillStyle = name === this.selected ? colours.accent : colours.muted;
    pen.fillText(text.length > area.letters ? `${text.slice(0, area.letters - 1)}…` : text, 0, 0);
    pen.restore();
  }
}
