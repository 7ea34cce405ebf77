// The maps: fills the sources of Bokeh's figures and places labels that touch no other.

const FONT = "12px sans-serif",
  LINE = 15,
  MAX_LABELLED = 120;
const measure = document.createElement("canvas").getContext("2d");
measure.font = FONT;

class Maps {
  constructor(plots, data) {
    this.plots = plots;
    this.data = data;
    this.dots = plots[0].renderers[0].data_source;
    this.sources = plots.map((plot) =>
      Object.fromEntries(
        plot.renderers.slice(1).map((r) => [r.data_source.name.replace(/\d+$/, ""), r.data_source]),
      ),
    );
    this.xy = [];
  }

  // Show the words `ids` at `xy`, one [x0, y0, x1, y1, ...] per map; `extent` is what must fit.
  show(ids, xy, extent = xy) {
    this.ids = ids;
    this.rowOf = new Map(ids.map((id, row) => [id, row]));
    this.plots.forEach((plot, m) => fit(plot, extent[m]));
    this.move(xy);
  }

  move(xy) {
    this.xy = xy;
    const columns = { word: this.ids.map((id) => this.data.words[id]) };
    xy.forEach((own, m) => {
      columns[`x${m}`] = Float32Array.from(this.ids, (_, row) => own[2 * row]);
      columns[`y${m}`] = Float32Array.from(this.ids, (_, row) => own[2 * row + 1]);
    });
    this.dots.data = columns;
  }

  // Mark words: `kinds` is {first, second, own, selected, hovered} of ids, `neighbours` ids by map.
  // `labelled` are further ids to label where there is room.
  mark(kinds, neighbours, labelled) {
    this.plots.forEach((plot, m) => {
      for (const [name, ids] of Object.entries({ ...kinds, neighbours: neighbours[m] })) {
        this.sources[m][name].data = this.points(m, ids);
      }
      const order = [
        ...kinds.hovered,
        ...kinds.selected,
        ...neighbours[m],
        ...kinds.own,
        ...labelled,
      ];
      this.label(plot, m, [...new Set(order)]);
    });
  }

  points(m, ids) {
    const rows = ids.map((id) => this.rowOf.get(id)).filter((row) => row !== undefined);
    return {
      x: rows.map((row) => this.xy[m][2 * row]),
      y: rows.map((row) => this.xy[m][2 * row + 1]),
    };
  }

  label(plot, m, ids) {
    const { x_range: xs, y_range: ys } = plot;
    const width = plot.inner_width,
      height = plot.inner_height;
    const found = { x: [], y: [], word: [], dx: [], dy: [] },
      taken = [];
    for (const id of ids.slice(0, MAX_LABELLED)) {
      const row = this.rowOf.get(id);
      if (row === undefined) continue;
      const x = this.xy[m][2 * row],
        y = this.xy[m][2 * row + 1],
        word = this.data.words[id];
      const left = (width * (x - xs.start)) / (xs.end - xs.start);
      const top = (height * (ys.end - y)) / (ys.end - ys.start);
      const place = freePlace(left, top, measure.measureText(word).width, width, height, taken);
      if (!place) continue;
      taken.push(place.box);
      found.x.push(x);
      found.y.push(y);
      found.word.push(word);
      found.dx.push(place.dx);
      found.dy.push(place.dy);
    }
    this.sources[m].words.data = found;
  }
}

// Where a label fits beside its point: right, left, above or below; null if it fits nowhere.
function freePlace(x, y, size, width, height, taken) {
  const gap = 8;
  const offsets = [
    [gap, 0],
    [-gap - size, 0],
    [-size / 2, -LINE],
    [-size / 2, LINE],
  ];
  for (const [dx, dy] of offsets) {
    const box = [x + dx, y + dy - LINE / 2, x + dx + size, y + dy + LINE / 2];
    const inside = box[0] >= 0 && box[1] >= 0 && box[2] <= width && box[3] <= height;
    const touches = taken.some(
      (t) => box[0] < t[2] && box[2] > t[0] && box[1] < t[3] && box[3] > t[1],
    );
    if (inside && !touches) return { dx, dy, box };
  }
  return null;
}

// Set the ranges of a plot so that all points have room.
function fit(plot, xy) {
  for (const [axis, first] of [
    ["x_range", 0],
    ["y_range", 1],
  ]) {
    let low = Infinity,
      high = -Infinity;
    for (let i = first; i < xy.length; i += 2) {
      low = Math.min(low, xy[i]);
      high = Math.max(high, xy[i]);
    }
    const margin = 0.08 * (high - low) || 1;
    const [start, end] = [low - margin, high + margin];
    plot[axis].setv({ start, end, reset_start: start, reset_end: end });
  }
}
