// Wires the controls of the page to the maps, tables and curves.

const byId = (id) => document.getElementById(id);
const NO_MOTION = matchMedia("(prefers-reduced-motion: reduce)");
const MOVE_MS = 400,
  SUGGESTIONS = 12;
let data, words, maps, curves;
const state = { selected: null, hovered: null, own: [], group: null, alone: false, epoch: 0 };

async function start() {
  data = JSON.parse(byId("data").textContent);
  words = new Words(data.words);
  const [all, document_] = await Promise.all([unpackMaps(), drawFigures()]);
  data.models.forEach((model, m) => Object.assign(model, all[m]));
  maps = new Maps(
    data.models.map((_, m) => document_.get_model_by_name(`map${m}`)),
    data,
  );
  curves = [...document.querySelectorAll(".curve .plot")].map((box) =>
    document_.get_model_by_name(box.dataset.plot),
  );
  listen();
  fillGroups();
  state.selected = words.find(data.first);
  await showView();
  select(state.selected);
  for (const control of document.querySelectorAll("main fieldset")) control.disabled = false;
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
  document.querySelector("[data-analogy]")?.click();
}

async function unpackMaps() {
  return Promise.all(
    data.models.map(async (model) => ({
      points: await arrayOf(Float32Array, model.xy),
      neighbourIds: model.neighbours && (await arrayOf(Uint16Array, model.neighbours)),
      neighbourCosines: model.cosines && (await arrayOf(Int16Array, model.cosines)),
    })),
  );
}

// Bokeh's script and its figures; returns Bokeh's document once all is drawn.
async function drawFigures() {
  const decoder = new TextDecoder();
  run(decoder.decode(await bytesOf(byId("bokeh").textContent)));
  run(byId("figures").textContent);
  while (!(Bokeh.documents.length && Bokeh.documents[0].is_idle)) {
    await new Promise((done) => setTimeout(done, 10));
  }
  return Bokeh.documents[0];
}

function run(source) {
  const script = document.createElement("script");
  script.textContent = source;
  document.head.append(script);
}

function listen() {
  maps.dots.connect(maps.dots.inspect, () => hover(maps.dots.inspected.indices));
  maps.dots.selected.properties.indices.change.connect(() => {
    const [row] = maps.dots.selected.indices;
    if (row === undefined) return;
    select(maps.ids[row]);
    maps.dots.selected.indices = []; // our own marker shows it
  });
  for (const plot of maps.plots) {
    for (const range of [plot.x_range, plot.y_range]) range.change.connect(soon(mark));
    plot.properties.inner_width.change.connect(soon(mark));
  }
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  byId("analogy").addEventListener("submit", (event) => {
    event.preventDefault();
    analogy();
  });
  byId("own").addEventListener("submit", (event) => {
    event.preventDefault();
    colourOwn();
  });
  for (const input of document.querySelectorAll("input[list]")) {
    input.addEventListener("input", () => suggest(input.value));
  }
  for (const button of document.querySelectorAll("[data-analogy]")) {
    button.addEventListener("click", () => ask(button.dataset.analogy.split(" ")));
  }
  byId("group").addEventListener("change", () => {
    state.group = chosenGroup();
    showView();
  });
  byId("alone").addEventListener("change", () => {
    state.alone = byId("alone").checked;
    showView();
  });
  byId("epoch").addEventListener("input", () => showEpoch(Number(byId("epoch").value)));
  byId("play").addEventListener("click", play);
  for (const box of document.querySelectorAll("[data-curve]")) {
    box.addEventListener("change", () => toggleCurve(box.dataset.curve, box.checked));
  }
  addEventListener("beforeprint", readyForPaper);
  addEventListener("afterprint", backToScreen);
}

// Calls `act` once before the next picture, however often it is asked for.
function soon(act) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      act();
    });
  };
}

// Words ---------------------------------------------------------------------------------------

function suggest(text) {
  const options = words
    .startingWith(text, SUGGESTIONS)
    .map((word) => element("option", { value: word }));
  byId("suggestions").replaceChildren(...options);
}

function search() {
  const text = byId("word").value,
    id = words.find(text);
  if (id === null) say("found", notHere(text));
  else select(id);
}

function notHere(text) {
  if (!text.trim()) return "Type a word.";
  const near = words.nearestSpellings(text, 3).join(", ");
  const count = data.words.length.toLocaleString("en");
  return `“${text.trim()}” is not among the ${count} words of this page. Nearest spelling: ${near}.`;
}

function say(id, text) {
  byId(id).textContent = text;
}

function select(id) {
  state.selected = id;
  byId("word").value = data.words[id];
  const common = sharedIds(neighbourLists(id)).size;
  const away = maps.rowOf.has(id) ? "" : " It is not in the group on the maps.";
  say("found", `“${data.words[id]}”: ${common} neighbours are in two or more lists.${away}`);
  showFocus();
}

function hover(rows) {
  const hovered = rows.length ? maps.ids[rows[0]] : null;
  if (hovered === state.hovered) return;
  state.hovered = hovered;
  say("hovered", hovered === null ? "–" : data.words[hovered]);
  showFocus();
}

// The word whose neighbours are shown: the one under the pointer, or else the selected one.
function focus() {
  return state.hovered ?? state.selected;
}

function neighbourLists(id) {
  return data.models.map((model) => neighboursOf(model, id));
}

function showFocus() {
  const id = focus();
  const empty = data.models.map(
    (model) => `every word ties at ${model.tie?.toFixed(2)}: none is nearest`,
  );
  byId("neighbours").replaceChildren(
    listTable(`Nearest to “${data.words[id]}”, by cosine`, data.models, neighbourLists(id), empty, {
      words: data.words,
      onWord: select,
    }),
  );
  mark();
}

function colourOwn() {
  const texts = byId("own-words")
    .value.split(/[\s,;]+/)
    .filter(Boolean);
  const ids = texts.map((text) => words.find(text));
  state.own = [...new Set(ids.filter((id) => id !== null))];
  const unknown = texts.filter((_, i) => ids[i] === null);
  say("own-found", [`${state.own.length} words coloured.`, ...unknown.map(notHere)].join(" "));
  mark();
}

// Groups and epochs ---------------------------------------------------------------------------

function fillGroups() {
  state.group = data.groups[0] ?? null;
  byId("alone").disabled = state.group === null;
}

function chosenGroup() {
  return data.groups.find((group) => group.name === byId("group").value) ?? null;
}

async function showView() {
  const group = state.group;
  byId("alone").disabled = group === null;
  const isAlone = state.alone && group !== null;
  if (isAlone && !group.points) {
    group.points = await Promise.all(group.models.map((own) => arrayOf(Float32Array, own.xy)));
  }
  legend(group);
  const numEpochs = isAlone ? Math.max(...group.models.map((own) => own.epochs.length)) : 1;
  const slider = byId("epoch");
  slider.max = String(numEpochs - 1);
  slider.value = slider.max;
  slider.disabled = byId("play").disabled = numEpochs < 2;
  state.epoch = numEpochs - 1;
  if (isAlone) maps.show(group.ids, pointsAt(state.epoch), group.points);
  else
    maps.show(
      data.words.map((_, id) => id),
      data.models.map((model) => model.points),
    );
  describeView();
  mark();
}

function legend(group) {
  for (const [i, name] of ["first", "second"].entries()) {
    byId(`key-${name}`).hidden = group === null;
    if (group) say(`kind-${name}`, group.kinds[i]);
  }
}

// Coordinates of the group at an entry of its history; a model without one stays at its end.
function pointsAt(entry) {
  const group = state.group,
    size = 2 * group.ids.length;
  return group.points.map((points, m) => {
    const at = Math.min(entry, group.models[m].epochs.length - 1);
    return points.subarray(at * size, (at + 1) * size);
  });
}

function showEpoch(entry) {
  const from = maps.xy,
    to = pointsAt(entry);
  state.epoch = entry;
  describeView();
  if (NO_MOTION.matches) {
    maps.move(to);
    mark();
    return;
  }
  const began = performance.now(),
    target = entry;
  const step = (now) => {
    if (state.epoch !== target || maps.ids !== state.group?.ids) return;
    const share = Math.min(1, Math.max(0, (now - began) / MOVE_MS));
    maps.move(to.map((own, m) => own.map((value, i) => from[m][i] + share * (value - from[m][i]))));
    mark();
    if (share < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

async function play() {
  const slider = byId("epoch"),
    last = Number(slider.max);
  for (let entry = 0; entry <= last; entry++) {
    slider.value = String(entry);
    showEpoch(entry);
    await new Promise((done) => setTimeout(done, 2 * MOVE_MS));
    if (Number(slider.value) !== entry || slider.disabled) return; // the reader took over
  }
}

function describeView() {
  const isAlone = state.alone && state.group !== null;
  data.models.forEach((model, m) => {
    const own = isAlone ? state.group.models[m] : null;
    say(`about${m}`, own ? aboutGroup(own, model) : model.about);
  });
  if (!isAlone) {
    say("epoch-now", "The slider moves a group: tick “the group alone”.");
    return;
  }
  const longest = state.group.models.reduce((one, other) =>
    other.epochs.length > one.epochs.length ? other : one,
  );
  const [now, last] = [longest.epochs[state.epoch], longest.epochs.at(-1)];
  say(
    "epoch-now",
    longest.epochs.length < 2
      ? "No slider: no run has stored its epochs."
      : `epoch ${now} of ${last}${now ? "" : ", before training"}`,
  );
}

function aboutGroup(own, model) {
  const value = own.silhouettes[Math.min(state.epoch, own.silhouettes.length - 1)];
  const size = value === null ? "not defined" : value.toFixed(2);
  const apart = `Separation of the two kinds in the full space (silhouette): ${size}.`;
  if (model.tie !== null) return `${apart} ${model.about}`;
  return own.epochs.length > 1 ? apart : `${apart} The end of the training only.`;
}

function mark() {
  const group = state.group,
    second = group ? group.second : [];
  const kinds = {
    first: group ? group.ids.filter((_, row) => !second[row]) : [],
    second: group ? group.ids.filter((_, row) => second[row]) : [],
    own: state.own,
    selected: [state.selected],
    hovered: state.hovered === null ? [] : [state.hovered],
  };
  const neighbours = neighbourLists(focus()).map((list) => list.map(({ id }) => id));
  const labelled = group && state.alone ? [...kinds.second, ...kinds.first] : [];
  maps.mark(kinds, neighbours, labelled);
}

// Analogies -----------------------------------------------------------------------------------

function ask(three) {
  three.forEach((word, i) => {
    byId("abc"[i]).value = word;
  });
  analogy();
}

async function analogy() {
  const texts = ["a", "b", "c"].map((name) => byId(name).value);
  const ids = texts.map((text) => words.find(text));
  const unknown = texts.filter((_, i) => ids[i] === null);
  if (unknown.length) {
    byId("answers").replaceChildren();
    say("answered", unknown.map(notHere).join(" "));
    return;
  }
  say("answered", "Computing …");
  const lists = [];
  for (const model of data.models) {
    if (model.tie === null) model.decoded ??= await factorOf(model, data.words.length);
    lists.push(model.tie === null ? answersTo(model, ids, 5) : []);
  }
  const empty = data.models.map(
    (model) => `no answer: every word ties at ${model.tie?.toFixed(2)}`,
  );
  const question = `${texts[0]} : ${texts[1]} :: ${texts[2]} : ?`;
  byId("answers").replaceChildren(
    listTable(`${question} (3CosAdd score)`, data.models, lists, empty, {
      words: data.words,
      onWord: select,
    }),
  );
  const firsts = data.models.map(
    (model, m) => `${model.label}: ${lists[m].length ? data.words[lists[m][0].id] : "no answer"}`,
  );
  say("answered", `${question} ${firsts.join("; ")}.`);
}

// Curves --------------------------------------------------------------------------------------

function toggleCurve(number, isVisible) {
  for (const plot of curves) {
    for (const renderer of plot.renderers)
      if (renderer.name === `curve${number}`) renderer.visible = isVisible;
  }
}

start().catch((error) => {
  byId("trouble").hidden = false;
  say(
    "trouble",
    `This page could not start (${error.message}). It needs a browser of 2023 or newer.`,
  );
  throw error;
});
