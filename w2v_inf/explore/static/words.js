// Questions about words: which word is meant, its neighbours, analogies. Nothing here draws.

class Words {
  constructor(words) {
    this.words = words;
    this.idOf = new Map(words.map((word, id) => [word, id]));
    this.idOfLower = new Map();
    words.forEach((word, id) => {
      const lower = word.toLowerCase();
      if (!this.idOfLower.has(lower)) this.idOfLower.set(lower, id);
    });
  }

  find(text) {
    const word = text.trim();
    return this.idOf.get(word) ?? this.idOfLower.get(word.toLowerCase()) ?? null;
  }

  startingWith(text, limit) {
    const start = text.trim().toLowerCase(),
      found = [];
    if (!start) return found;
    for (const word of this.words) {
      if (word.toLowerCase().startsWith(start)) found.push(word);
      if (found.length === limit) break;
    }
    return found;
  }

  // The words with the fewest changed letters, the commonest first.
  nearestSpellings(text, limit) {
    const wanted = text.trim().toLowerCase();
    const scored = this.words.map((word, id) => [editDistance(wanted, word.toLowerCase()), id]);
    scored.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
    return scored.slice(0, limit).map(([, id]) => this.words[id]);
  }
}

// Levenshtein distance; two exchanged letters count as one change.
function editDistance(a, b) {
  let before = [],
    last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j], before[j - 2] + 1);
      }
    }
    [before, last] = [last, row];
  }
  return last[b.length];
}

// The nearest words of `id` in a model, best first: [{id, score}]; none where all words tie.
function neighboursOf(model, id) {
  if (model.tie !== null) return [];
  const count = model.num_neighbours,
    start = id * count;
  return Array.from({ length: count }, (_, i) => ({
    id: model.neighbourIds[start + i],
    score: model.neighbourCosines[start + i] / 10000,
  }));
}

// The best answers to a : b :: c : ? by 3CosAdd, without a, b and c: [{id, score}].
function answersTo(model, [a, b, c], limit) {
  const { table, rank } = model.decoded;
  const query = new Float32Array(rank);
  for (let k = 0; k < rank; k++) {
    query[k] = table[b * rank + k] - table[a * rank + k] + table[c * rank + k];
  }
  const best = [];
  for (let id = 0, at = 0; at < table.length; id++) {
    let score = 0;
    for (let k = 0; k < rank; k++, at++) score += query[k] * table[at];
    if (id === a || id === b || id === c) continue;
    if (best.length === limit && score <= best[limit - 1].score) continue;
    best.push({ id, score });
    best.sort((one, other) => other.score - one.score);
    if (best.length > limit) best.pop();
  }
  return best;
}

// Ids of the words that appear in the lists of two models or more.
function sharedIds(lists) {
  const counts = new Map();
  for (const list of lists) for (const { id } of list) counts.set(id, (counts.get(id) ?? 0) + 1);
  return new Set([...counts].filter(([, count]) => count > 1).map(([id]) => id));
}
