// The curves of one class in place of those of all classes: every chart is a unit square.
{
  const PARTS = 1000;
  const data = dataOf("curve-data");
  const place = document.querySelector("[data-curves]");

  // There is room for these of one system only.
  const BY_THRESHOLD = ["precision", "recall", "f"];
  // The coordinates, in thousandths, of what a line shows.
  const coordinates = (curve, key) => BY_THRESHOLD.includes(key) ? [curve.at, curve[key]] : curve[key] ?? [[], []];

  const wayThrough = (path, [xs, ys]) => {
    const [left, right, bottom, top] = path.ownerSVGElement.dataset.unit.split(" ").map(Number);
    const dots = path.classList.contains("dots");
    const steps = xs.map((x, at) => x === null || ys[at] === null ? null
      : `${(left + (x / PARTS) * (right - left)).toFixed(1)},${(bottom + (ys[at] / PARTS) * (top - bottom)).toFixed(1)}`);
    const known = steps.filter((step) => step !== null);
    if (dots) return known.map((step) => `M${step}h0`).join("");
    return known.length ? `M${known.join("L")}` : "";
  };

  const percent = (value) => value == null ? "\u2013" : (100 * value).toFixed(1);

  const curveOf = (system, name) => {
    if (!name) return system.all;
    const at = data.class_lists[system.classes].indexOf(name);
    return at < 0 ? null : system.per_class[at];
  };

  const tellFacts = (row, curve) => {
    const [f1, threshold] = curve?.f1 ?? [null, null];
    const values = [(curve?.n ?? 0).toLocaleString("en"), percent(curve?.auc), percent(curve?.ap), percent(f1), percent(threshold)];
    values.forEach((value, at) => { row.cells[at + 1].textContent = value; });
  };

  const draw = (name, shown) => {
    data.systems.forEach((system, at) => {
      const curve = curveOf(system, name);
      for (const path of place.querySelectorAll(`path[data-system="${at}"]`)) {
        const hidden = !curve || (BY_THRESHOLD.includes(path.dataset.key) && at !== shown);
        path.setAttribute("d", hidden ? "" : wayThrough(path, coordinates(curve, path.dataset.key)));
      }
      tellFacts(place.querySelector(`tr[data-system="${at}"]`), curve);
    });
    for (const label of place.querySelectorAll("[data-of]")) label.textContent = name || "all classes";
  };

  if (data && place) {
    const classChoice = place.querySelector("select[data-class]"), systemChoice = place.querySelector("select[data-system-choice]");
    for (const name of new Set(data.class_lists.flat())) classChoice.append(new Option(name, name));
    const update = () => draw(classChoice.value, Number(systemChoice.value));
    for (const choice of [classChoice, systemChoice]) choice.addEventListener("input", update);
    for (const button of place.querySelectorAll("[data-step]")) {
      button.addEventListener("click", () => {
        const { length } = classChoice.options;
        classChoice.selectedIndex = (classChoice.selectedIndex + Number(button.dataset.step) + length) % length;
        update();
      });
    }
  }
}
