// Tables under the maps: neighbours and answers, a column per model.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// A table whose column m lists `lists[m]` of {id, score}; `empty[m]` stands where a list is empty.
function listTable(caption, models, lists, empty, { words, onWord }) {
  const shared = sharedIds(lists);
  const numRows = Math.max(1, ...lists.map((list) => list.length));
  const head = element(
    "tr",
    {},
    element("th", { scope: "col" }, "rank"),
    ...models.map((model) => element("th", { scope: "col" }, model.label)),
  );
  const body = element("tbody");
  for (let i = 0; i < numRows; i++) {
    const row = element("tr", {}, element("th", { scope: "row" }, String(i + 1)));
    lists.forEach((list, m) => {
      if (list.length) row.append(wordCell(list[i], shared, words, onWord));
      else if (i === 0) row.append(element("td", { class: "empty", rowspan: numRows }, empty[m]));
    });
    body.append(row);
  }
  return element("table", {}, element("caption", {}, caption), element("thead", {}, head), body);
}

function wordCell(entry, shared, words, onWord) {
  if (!entry) return element("td");
  const word = words[entry.id],
    isShared = shared.has(entry.id);
  const button = element(
    "button",
    { type: "button", class: "word", onclick: () => onWord(entry.id) },
    isShared ? `◆ ${word}` : word,
  );
  const cell = element(
    "td",
    isShared ? { class: "shared" } : {},
    button,
    " ",
    element("span", { class: "score" }, entry.score.toFixed(2)),
  );
  return cell;
}
