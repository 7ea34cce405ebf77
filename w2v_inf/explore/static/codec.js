// Arrays of the page: base64 of deflated bytes, little-endian.

async function bytesOf(text) {
  const binary = atob(text);
  const packed = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) packed[i] = binary.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

async function arrayOf(Type, text) {
  return new Type(await bytesOf(text));
}

// The factor of the cosines, row by row. Its columns are stored one after another, all low bytes
// before all high bytes; level x is stored as 2 x, or as -2 x - 1 below zero.
async function factorOf(model, numWords) {
  const bytes = await arrayOf(Uint8Array, model.factor);
  const steps = await arrayOf(Float32Array, model.steps);
  const rank = steps.length,
    half = rank * numWords;
  const table = new Float32Array(half);
  for (let column = 0, at = 0; column < rank; column++) {
    for (let row = 0; row < numWords; row++, at++) {
      const stored = bytes[at] | (bytes[half + at] << 8);
      table[row * rank + column] = steps[column] * (stored & 1 ? -(stored + 1) / 2 : stored / 2);
    }
  }
  return { table, rank };
}
