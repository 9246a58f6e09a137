// One system's counts: `cells` has right class, predicted class and clips of every pair in turn.
class ConfusionCounts {
  constructor(system, classes) {
    Object.assign(this, { system, classes, size: classes.length });
    this.support = system.support;
    this.rows = Array.from({ length: this.size }, () => new Map());
    const { cells } = system;
    for (let at = 0; at < cells.length; at += 3) this.rows[cells[at]].set(cells[at + 1], cells[at + 2]);
    this.orders = this.makeOrders();
  }

  share(row, column) {
    return this.support[row] ? (this.rows[row].get(column) ?? 0) / this.support[row] : 0;
  }

  makeOrders() {
    const given = [...Array(this.size).keys()];
    const right = given.map((row) => this.support[row] ? this.share(row, row) : 2);
    return {
      similarity: this.system.order,
      given,
      name: [...given].sort((a, b) => inOrder(this.classes[a], this.classes[b])),
      worst: [...given].sort((a, b) => right[a] - right[b]),
    };
  }

  // [class, clips] of what clips of `row` are taken for, most first.
  takenFor(row) {
    return [...this.rows[row]].filter(([column]) => column !== row).sort((a, b) => b[1] - a[1]);
  }

  // [class, clips] of what is taken for `column`, most first.
  takenFrom(column) {
    const found = [];
    this.rows.forEach((cells, row) => {
      if (row !== column && cells.has(column)) found.push([row, cells.get(column)]);
    });
    return found.sort((a, b) => b[1] - a[1]);
  }
}
