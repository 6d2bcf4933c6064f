// The tape's sweeps, one gate at a time, and what the page shows of them.
const numbers = list => list.map(Number);
const N = TAPE.inputs.length, K = TAPE.constants.length, FIRST = N + K, GATES = TAPE.gates.length;
const state = { inputs: numbers(TAPE.values), seeds: TAPE.outputs.map(() => 1), step: 0 };
const STEPS = 2 * GATES + 1;  // each gate forward, the seeds, each gate in reverse

// What depends on an input, by ops that have a derivative.
const active = new Array(FIRST + GATES).fill(false).fill(true, 0, N);
TAPE.gates.forEach(([op, , ...slots], i) => {
  active[FIRST + i] = !TAPE.ops[op].zero && slots.some(s => active[s]);
});
const readers = new Array(FIRST + GATES).fill(0);
TAPE.gates.forEach(([, , ...slots]) => slots.forEach(s => readers[s]++));
TAPE.outputs.forEach(([, slot]) => readers[slot]++);

// What flows into a gate that the page knows at these inputs alone, and so keeps its value.
const fixed = new Array(FIRST + GATES).fill(false);
for (let i = GATES - 1; i >= 0; i--) {
  const [op, , ...slots] = TAPE.gates[i];
  if (TAPE.ops[op].known || fixed[FIRST + i]) slots.forEach(s => { fixed[s] = true; });
}

// Every slot's value. over: a slot that has another value than its gate gives it.
const forward = (inputs, over = -1, value = 0) => {
  const V = [...inputs, ...numbers(TAPE.constants)];
  if (over >= 0 && over < N) V[over] = value;
  for (let i = 0; i < GATES; i++) {
    const [op, , ...slots] = TAPE.gates[i];
    V.push(FIRST + i === over ? value : OPS[op].v(...slots.map(s => V[s])));
  }
  return V;
};
const loss = V => TAPE.outputs.reduce((sum, [, slot], k) => sum + state.seeds[k] * V[slot], 0);

// Both sweeps, with all that a step shows: partials, products, and sums before each product.
const sweep = () => {
  const V = forward(state.inputs), G = V.map(() => -0);
  TAPE.outputs.forEach(([, slot], k) => { G[slot] += state.seeds[k]; });
  const seeded = [...G], flows = new Array(GATES);
  for (let i = GATES - 1; i >= 0; i--) {
    const [op, , ...slots] = TAPE.gates[i], own = FIRST + i, arriving = G[own];
    const partials = OPS[op].p(...slots.map(s => V[s]));
    flows[i] = slots.map((slot, k) => {
      const partial = partials[k], before = G[slot];
      const flowing = active[own] && active[slot];
      const none = !flowing || arriving === 0 || partial === 0;
      if (!none) G[slot] = fma(arriving, partial, before);
      return { slot, partial, before, product: none ? 0 : arriving * partial, after: G[slot], flowing };
    });
  }
  return { V, G: G.map(g => g + 0), seeded, flows };
};
let now = sweep();

// Central differences at three widths, extrapolated twice, in a slot; of what keeps its value
// the library has them for inputs, as long as the others have theirs.
const difference = slot => {
  if (fixed[slot]) return slot >= N || state.inputs.some((x, k) => !Object.is(x, Number(TAPE.values[k])))
    ? undefined : TAPE.differences[slot].reduce((sum, x, k) => sum + state.seeds[k] * Number(x), 0);
  const x = now.V[slot], h = 2 ** -8 * Math.min(1, Math.max(2 ** -10, Math.abs(x)));
  const at = y => loss(forward(state.inputs, slot, y));
  const D = w => (at(x + w) - at(x - w)) / ((x + w) - (x - w));
  const [a, b, c] = [D(h), D(h / 2), D(h / 4)];
  const [ab, bc] = [(4 * b - a) / 3, (4 * c - b) / 3];
  return (16 * bc - ab) / 15;
};
const agrees = (d, g) => Math.abs(d - g) <= 1e-6 * Math.max(1, Math.abs(d), Math.abs(g));

// Text.
const tidy = text => text.replace(/(\.\d*?)0+(?=e|$)/, "$1").replace(/\.(?=e|$)/, "")
  .replace("e+", "e").replace(/-/g, "−");
const show = (x, digits = 6) => {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "−inf";
  x += 0;
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-4 || size >= 10 ** digits)) return tidy(x.toExponential(digits - 1));
  return tidy(x.toPrecision(digits));
};
const short = x => {
  const text = show(x, 4);
  return text.length > 9 ? show(x, 2) : text;
};
const escape = text => String(text).replace(/[&<>"]/g, c => `&#${c.charCodeAt(0)};`);
const nameOf = slot => slot < N ? TAPE.inputs[slot]
  : slot < FIRST ? show(Number(TAPE.constants[slot - N])) : `v${slot - FIRST}`;
const signed = text => /^−/.test(text) ? `(${text})` : text;
const V = x => `<span class="v">${show(x)}</span>`, G = x => `<span class="g">${show(x)}</span>`;
const filled = (formula, slots, own) => [...formula].map(c => {
  const k = c.charCodeAt(0) - 0xe000;
  return k < 0 || k > slots.length ? c : k === slots.length ? own : nameOf(slots[k]);
}).join("");
const phase = step => step === 0 ? "start" : step <= GATES ? "forward"
  : step === GATES + 1 && GATES + 1 <= STEPS ? "seed" : "backward";
const gateAt = step => phase(step) === "forward" ? step - 1
  : phase(step) === "backward" ? STEPS - step : -1;
const RESULT = TAPE.outputs.length === 1 ? TAPE.outputs[0][0] : "L";
const d = (a, b) => `∂${escape(a)}/∂${escape(b)}`;

const describe = () => {
  const step = state.step, i = gateAt(step), kind = phase(step);
  if (kind === "start") return `<p class="kind">start</p><h2>Inputs are given</h2>
    <p>Step on (→) to run the gates in order: each takes the values at its wires and makes one.
    After the last gate the gradient flows back, from the result to the inputs.</p>`;
  if (kind === "seed") return `<p class="kind">backward</p><h2>The gradient begins at the result</h2>
    ${TAPE.outputs.length === 1 ? "" : `<p>L is the sum of the results, each times its seed.</p>`}
    ${TAPE.outputs.map(([name, slot], k) => `<div class="rule"><div class="math">${d(RESULT, name)} =
    ${G(state.seeds[k])}</div></div>`).join("")}`;
  const [op, source, ...slots] = TAPE.gates[i], own = FIRST + i, { name, formulas } = TAPE.ops[op];
  const [file, code] = TAPE.sources[source];
  const where = `<p class="source">${escape(file)} ${code ? `<code>${escape(code)}</code>` : ""}</p>`;
  const what = escape(filled(formulas[0], slots, `v${i}`));
  const head = `<h2>v${i} = ${what}</h2>`;
  const apart = TAPE.ops[op].known
    ? '<p class="note">The library has computed it: its value and local derivatives are those at these inputs.</p>' : "";
  const given = slots.map(s => `${escape(nameOf(s))} = ${V(now.V[s])}`)
    .filter((_, k) => slots[k] < N || slots[k] >= FIRST);
  if (kind === "forward") {
    return `<p class="kind">forward, gate ${i + 1} of ${GATES}: ${escape(name)}</p>${head}
      <div class="rule forward"><div class="math">${[...new Set(given)].join(", &ensp;")}</div>
      <div class="math">v${i} = ${V(now.V[own])}</div></div>${apart}
      <p class="note">Its local derivatives, which the backward pass will need:</p>
      ${slots.map((s, k) => local(i, k, slots, formulas)).join("")}${where}`;
  }
  const rows = now.flows[i].map(({ slot, partial, before, product, after, flowing }, k) => {
    if (!flowing) return `<div class="rule"><div class="math">${escape(nameOf(slot))}: nothing flows,
      ${slot >= N && slot < FIRST ? "it is a constant" : TAPE.ops[op].zero
        ? "the gate is a step, with a slope of 0" : "no input reaches the result through it"}</div></div>`;
    const sum = readers[slot] > 1
      ? `<div class="math">sum so far: ${G(before + 0)} + ${G(product)} = ${G(after + 0)}</div>` : "";
    return `<div class="rule">${local(i, k, slots, formulas)}<div class="math">${d(RESULT, `v${i}`)} ·
      ${d(`v${i}`, nameOf(slot))} = ${G(now.G[own])} · ${signed(show(partial))} =
      ${G(product)}</div>${sum}</div>`;
  });
  return `<p class="kind">backward, gate ${GATES - i} of ${GATES}: ${escape(name)}</p>${head}
    <p>Arriving: ${d(RESULT, `v${i}`)} = ${G(now.G[own])}${readers[own] > 1
      ? `, the sum over ${readers[own]} branches` : ""}. Each operand is sent this times its local
      derivative.</p>${rows.join("")}${where}`;
};
const local = (i, k, slots, formulas) => {
  const partial = now.flows[i][k].partial, name = nameOf(slots[k]);
  const formula = formulas[k + 1] === undefined ? "" : escape(filled(formulas[k + 1], slots, `v${i}`));
  const result = show(partial);
  return `<div class="math">${d(`v${i}`, name)} = ${formula && formula !== result ? formula + " = " : ""}${result}</div>`;
};

// What is known at a step: values up to a gate, gradients down to one.
const known = slot => slot < FIRST || slot - FIRST < state.step;
const begun = () => state.step > GATES;
const settled = gate => begun() && gate > GATES - 1 - (state.step - GATES - 1);  // has been swept back
const totals = () => {
  if (!begun()) return null;
  const G = [...now.seeded];
  for (let i = GATES - 1; i >= 0 && settled(i); i--)
    for (const { slot, after } of now.flows[i]) G[slot] = after;
  return G.map(g => g + 0);
};

const arrived = (G, slot) => G && (G[slot] !== 0 || state.step === STEPS);

const $ = id => document.getElementById(id);
const put = (id, text) => { const e = $(id); if (e) e.textContent = text; };
const paint = () => {
  const G = totals(), i = gateAt(state.step), kind = phase(state.step);
  for (let slot = 0; slot < FIRST + GATES; slot++) {
    put(`v${slot}`, known(slot) ? short(now.V[slot]) : "");
    put(`g${slot}`, arrived(G, slot) ? short(G[slot]) : "");
  }
  TAPE.gates.forEach(([, , ...slots], gate) => slots.forEach((s, k) =>
    put(`f${gate}_${k}`, settled(gate) ? short(now.flows[gate][k].product) : "")));
  TAPE.outputs.forEach((_, k) => put(`s${k}`, begun() ? short(state.seeds[k]) : ""));
  document.querySelectorAll("#graph g[class]").forEach(g =>
    g.classList.remove("lit", "ahead", "forward", "backward"));
  const holder = slot => TAPE.holders[slot];
  TAPE.owners.forEach((node, gate) => {
    if (!known(FIRST + gate)) for (const id of [`n${node}`, `w${node}`]) $(id)?.classList.add("ahead");
  });
  const lit = i >= 0 ? [TAPE.owners[i]] : kind === "start"
    ? TAPE.holders.slice(0, N) : TAPE.outputs.map(([, slot]) => holder(slot));
  lit.forEach(node => { $(`n${node}`)?.classList.remove("ahead"); $(`n${node}`)?.classList.add("lit"); });
  const way = kind === "forward" ? "forward" : "backward";
  if (i >= 0) $(`n${lit[0]}`)?.classList.add(way);
  if (i >= 0) TAPE.gates[i].slice(2).map(holder).filter(node => node !== lit[0])
    .forEach(node => $(`w${node}`)?.classList.add(way));
  $("now").innerHTML = describe();
  $("where").textContent = `${state.step} / ${STEPS} ${kind === "seed" ? "backward" : kind}`;
  $("slider").value = state.step;
  $("first").disabled = $("back").disabled = state.step === 0;
  $("next").disabled = $("last").disabled = state.step === STEPS;
  tables(G, i);
  look(lit[0]);
};

// Scroll the graph so that the lit gate is in its middle.
const look = node => {
  const box = $("graph"), g = $(`n${node}`);
  if (!g) return;
  const a = g.getBoundingClientRect(), b = box.getBoundingClientRect();
  const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches && !document.hidden;
  box.scrollTo({ left: box.scrollLeft + a.left + a.width / 2 - b.left - b.width / 2,
    top: box.scrollTop + a.top + a.height / 2 - b.top - b.height / 2, behavior: smooth ? "smooth" : "auto" });
};

// Tables. A check is worked out where it is seen, and kept while the inputs are the same.
let checks = new Map(), waiting = new Set(), patience = 0;
const check = slot => {
  if (!checks.has(slot) && performance.now() < patience) checks.set(slot, difference(slot));
  if (checks.has(slot)) return checked(slot);
  waiting.add(slot);
  return `<span data-check="${slot}">…</span>`;
};
// What takes longer than a moment is worked out between other things.
const later = () => {
  for (const slot of waiting) {
    waiting.delete(slot);
    checks.set(slot, difference(slot));
    document.querySelectorAll(`[data-check="${slot}"]`).forEach(e => { e.outerHTML = checked(slot); });
    break;
  }
  if (waiting.size) setTimeout(later);
};
const checked = slot => {
  const x = checks.get(slot);
  if (x === undefined) return "";
  if (Number.isNaN(x) && Number.isNaN(now.G[slot])) return show(x);
  return `${show(x)} ${agrees(x, now.G[slot]) ? '<span class="ok" title="they agree">✓</span>'
    : '<span class="off" title="a kink, or rounding: they differ">≠</span>'}`;
};
const cell = (kind, text) => `<td class="${kind}">${text}</td>`;
const cells = (slot, G) => cell("v", known(slot) ? show(now.V[slot]) : "")
  + cell("g", arrived(G, slot) ? show(G[slot]) : "")
  + cell("c", state.step === STEPS ? check(slot) : "");
const head = names => `<tr>${names.map(n => `<th${/gate|name|source|operands/.test(n) ? ' class="t"' : ""}>${n}</th>`).join("")}</tr>`;
const AROUND = 60;
const tables = (G, i) => {
  const idle = waiting.size === 0;
  patience = performance.now() + 150;
  TAPE.inputs.forEach((_, slot) => {
    const row = $(`row${slot}`);
    row.cells[2].innerHTML = arrived(G, slot) ? show(G[slot]) : "";
    row.cells[3].innerHTML = state.step === STEPS ? check(slot) : "";
  });
  TAPE.outputs.forEach(([, slot], k) => { $(`out${k}`).cells[1].innerHTML = known(slot) ? show(now.V[slot]) : ""; });
  const middle = i < 0 ? (begun() ? GATES - 1 : 0) : i;
  const from = Math.max(0, middle - AROUND), to = Math.min(GATES, middle + AROUND + 1);
  const rows = [];
  for (let gate = from; gate < to; gate++) {
    const [op, source, ...slots] = TAPE.gates[gate], own = FIRST + gate;
    rows.push(`<tr data-gate="${gate}"${gate === i ? ' class="lit"' : ""}>${cell("t", `v${gate}`)}
      ${cell("t", escape(filled(TAPE.ops[op].formulas[0], slots, `v${gate}`)))}${cells(own, G)}
      ${cell("t", escape(TAPE.sources[source][0]))}</tr>`);
  }
  const more = n => n > 0 ? `<tr><td class="t note" colspan="6">${n} more</td></tr>` : "";
  $("list").innerHTML = `<table>${head(["gate", "operands", "value", "gradient", "differences", "source"])}
    ${more(from)}${rows.join("")}${more(GATES - to)}</table>`;
  const row = $("list").querySelector(".lit");
  if (row) $("list").scrollTop = row.offsetTop - $("list").clientHeight / 2;
  if (idle && waiting.size) setTimeout(later);
};

// Editing.
const parse = text => {
  const plain = text.trim().replace(/−/g, "-").replace(",", ".")
    .replace(/[۰-۹]/g, c => c.charCodeAt(0) - 0x6f0).replace(/[٠-٩]/g, c => c.charCodeAt(0) - 0x660)
    .replace("٫", ".").toLowerCase();
  const named = { nan: NaN, inf: Infinity, "-inf": -Infinity };
  return plain in named ? named[plain] : plain === "" ? undefined
    : Number.isNaN(Number(plain)) ? undefined : Number(plain);
};
const exact = x => Number.isNaN(x) ? "nan" : Number.isFinite(x) ? (Object.is(x, -0) ? "-0" : String(x)) : x > 0 ? "inf" : "-inf";
const edited = (element, list, k) => {
  const x = parse(element.value);
  element.classList.toggle("bad", x === undefined);
  element.setAttribute("aria-invalid", x === undefined);
  if (x === undefined) return;
  list[k] = x;
  recompute();
};
const recompute = () => {
  now = sweep();
  checks = new Map();
  waiting.clear();
  const broken = TAPE.guards.filter(([slot, expected]) => now.V[slot] !== Number(expected));
  $("branch").hidden = broken.length === 0;
  $("branch").textContent = broken.length === 0 ? "" :
    `At these inputs the function takes another branch than this tape, which was recorded with ${broken[0][2].replace("  # ", " at ")}.`;
  paint();
};
const field = (label, value, kept = false) => `<input type="text" inputmode="text" autocomplete="off" spellcheck="false" dir="ltr"
  aria-label="${escape(label)}" value="${escape(exact(value))}"${kept ? " disabled" : ""}>`;
$("inputs").innerHTML = `<table>${head(["name", "value", "gradient", "differences"])}${TAPE.inputs.map((name, k) =>
  `<tr id="row${k}"><td class="t">${escape(name)}</td><td>${field(`value of ${name}`, state.inputs[k], fixed[k])}</td>${cell("g", "")}${cell("c", "")}</tr>`).join("")}</table>`;
$("outputs").innerHTML = `<table>${head(["name", "value", "seed"])}${TAPE.outputs.map(([name], k) =>
  `<tr id="out${k}"><td class="t">${escape(name)}</td>${cell("v", "")}<td>${field(`seed of ${name}`, 1)}</td></tr>`).join("")}</table>`;
$("inputs").querySelectorAll("input").forEach((e, k) => e.addEventListener("input", () => edited(e, state.inputs, k)));
$("outputs").querySelectorAll("input").forEach((e, k) => e.addEventListener("input", () => edited(e, state.seeds, k)));

// Steps.
let timer = 0;
const go = step => { state.step = Math.min(STEPS, Math.max(0, step)); paint(); };
const PLAY = "M8 5l10 7-10 7z", PAUSE = "M8 5v14M16 5v14";
const playing = on => {
  $("play").setAttribute("aria-label", on ? "pause" : "play");
  $("play").querySelector("path").setAttribute("d", on ? PAUSE : PLAY);
};
const stop = () => { clearInterval(timer); timer = 0; playing(false); };
const play = () => {
  if (timer) return stop();
  if (state.step === STEPS) go(0);
  playing(true);
  timer = setInterval(() => { go(state.step + 1); if (state.step === STEPS) stop(); }, 900);
};
const actions = { first: () => go(0), back: () => go(state.step - 1), next: () => go(state.step + 1), last: () => go(STEPS) };
for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", () => { stop(); action(); });
$("play").addEventListener("click", play);
$("slider").max = STEPS;
$("slider").addEventListener("input", e => { stop(); go(Number(e.target.value)); });
const KEYS = { ArrowLeft: "back", ArrowRight: "next", Home: "first", End: "last" };
document.addEventListener("keydown", e => {
  if (e.target.matches("input[type=text]") || e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === " " && !e.target.matches("button")) { e.preventDefault(); play(); }
  else if (KEYS[e.key]) { e.preventDefault(); stop(); actions[KEYS[e.key]](); }
});
// A click on a gate goes to it, in the direction of the sweep that is shown.
const visit = gate => { stop(); go(begun() ? STEPS - gate : gate + 1); };
TAPE.owners.forEach((node, gate) => {
  const g = $(`n${node}`);
  if (g && !g.dataset.gate) { g.dataset.gate = gate; g.addEventListener("click", () => visit(gate)); }
});
$("list").addEventListener("click", e => {
  const row = e.target.closest("tr[data-gate]");
  if (row) visit(Number(row.dataset.gate));
});
recompute();
