// The page of `tinygpt serve`. It asks the same paths as any other client: /v1/completions, /v1/chat/completions,
// /api/attention. Nothing is fetched from elsewhere, and nothing that a model writes is ever read as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const SURPRISING = 10; // bits at which the colour is full

const SLIDERS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, value: 0.8 },
  { name: "top_p", label: "Top p", min: 0.05, max: 1, step: 0.05, value: 1 },
  { name: "top_k", label: "Top k (0: all)", min: 0, max: 100, step: 1, value: 0 },
  { name: "min_p", label: "Min p", min: 0, max: 0.5, step: 0.01, value: 0 },
  { name: "repetition_penalty", label: "Repetition penalty", min: 1, max: 2, step: 0.05, value: 1 },
  { name: "max_tokens", label: "Tokens", min: 1, max: 400, step: 1, value: 80 },
  { name: "seed", label: "Seed (0: a new one each time)", min: 0, max: 100, step: 1, value: 0 },
];

let model = null; // what /v1/models says
let running = null; // an AbortController while an answer comes
let conversation = []; // messages of the chat
let map = null; // the last attention map
let mapRow = 0;

// --- elements

function element(kind, attributes = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

function visible(text) {
  // a token as a name: blanks and line breaks must be seen
  return text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "∅";
}

// --- asking

function headers() {
  const key = $("key").value;
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function ask(path, body, signal) {
  const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const answer = await fetch(path, { ...options, headers: headers(), signal });
  if (answer.ok) return answer;
  let message = `the server answered ${answer.status}`;
  try {
    message = (await answer.json()).error.message;
  } catch { /* no JSON */ }
  if (answer.status === 401) $("access").open = true;
  throw new Error(message);
}

async function* events(answer) {
  // server-sent events, however the network cut them
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the connection ended before the answer did");
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part === "data: [DONE]") return;
      const event = JSON.parse(part.slice("data: ".length));
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

function sampling() {
  const found = {};
  for (const { name } of SLIDERS) found[name] = Number($(`slider-${name}`).value);
  if (!found.seed) delete found.seed;
  return found;
}

// --- tokens

function tokenOf(text, logprob, top, given) {
  // one token on the page: its colour is its surprise
  const bits = logprob === null ? null : -logprob / Math.LN2;
  const made = element("span", { class: "token", role: "option", "aria-selected": "false", text });
  if (given) made.classList.add("given");
  if (bits !== null) made.style.setProperty("--surprise", Math.min(1, bits / SURPRISING).toFixed(3));
  const mark = text.endsWith("\n") ? "↵" : text ? "" : "◌"; // a part of a character has no text of its own
  if (mark) made.prepend(element("span", { class: "mark", text: mark, "aria-hidden": "true" }));
  made.told = { text, bits, logprob, top };
  made.setAttribute("aria-label", `${visible(text)}${bits === null ? "" : `, ${bits.toFixed(1)} bits`}`);
  return made;
}

function choose(token) {
  for (const old of document.querySelectorAll(".token.chosen")) {
    old.classList.remove("chosen");
    old.setAttribute("aria-selected", "false");
  }
  token.classList.add("chosen");
  token.setAttribute("aria-selected", "true");
  const box = token.closest("[role=listbox]");
  token.id ||= `token-${Math.random().toString(36).slice(2)}`;
  box.setAttribute("aria-activedescendant", token.id);
  const { text, bits, top } = token.told;
  const said = bits === null ? "the model was not asked about it" : `${bits.toFixed(2)} bits of surprise`;
  $("token-said").textContent = `“${visible(text)}”: ${said}`;
  $("alternatives").replaceChildren(...top.map((other) => alternative(token, other)));
}

function alternative(token, { text, logprob, drawn }) {
  const share = Math.exp(logprob);
  const percent = share >= 0.0995 ? `${(100 * share).toFixed(0)} %` : `${(100 * share).toPrecision(2)} %`;
  const bar = element("span", { class: "bar" });
  bar.style.setProperty("--share", share.toFixed(4));
  const goesOn = !drawn && token.closest("#output") && !text.startsWith("bytes:");
  const kind = goesOn ? ["button", { type: "button", title: "Go on from here with this token" }] : ["div", {}];
  const entry = element(kind[0], { ...kind[1], class: drawn ? "entry drawn" : "entry" },
    element("span", { class: "name", text: visible(text) }), element("span", {}, bar),
    element("span", { class: "number", text: percent }));
  if (goesOn) entry.addEventListener("click", () => goOnWith(token, text));
  return element("li", {}, entry);
}

function textOf(tokens) {
  return [...tokens].map((one) => one.told?.text ?? "").join("");
}

function goOnWith(token, text) {
  // the text up to this token, another token in its place, and on from there
  const before = [...$("output").children];
  const kept = textOf(before.slice(0, before.indexOf(token)));
  const echoed = before.some((one) => one.classList.contains("of-prompt"));
  $("prompt").value = (echoed ? "" : $("prompt").value) + kept + text;
  write();
}

function listenTo(box) {
  // pointer, focus and arrow keys in a list of tokens
  const tokens = () => [...box.querySelectorAll(".token")].filter((one) => one.told);
  box.addEventListener("pointerover", (event) => {
    const token = event.target.closest(".token");
    if (token && token.told && event.pointerType === "mouse") choose(token);
  });
  box.addEventListener("click", (event) => {
    const token = event.target.closest(".token");
    if (token && token.told) choose(token);
  });
  box.addEventListener("focus", () => {
    if (!box.querySelector(".chosen") && tokens().length) choose(tokens()[0]);
  });
  box.addEventListener("keydown", (event) => {
    const all = tokens(), at = all.findIndex((one) => one.classList.contains("chosen"));
    const steps = { ArrowRight: at + 1, ArrowDown: at + 10, ArrowLeft: at - 1, ArrowUp: at - 10, Home: 0, End: all.length - 1 };
    if (!(event.key in steps) || !all.length) return;
    event.preventDefault();
    const next = all[Math.max(0, Math.min(all.length - 1, steps[event.key]))];
    choose(next);
    next.scrollIntoView({ block: "nearest" });
  });
}

function tokensOfCompletion(choice) {
  const told = choice.logprobs;
  return told.tokens.map((text, i) => ({
    text, logprob: told.token_logprobs[i], top: ranked(Object.entries(told.top_logprobs[i] ?? {}), told.token_logprobs[i]),
  }));
}

function tokensOfChat(choice) {
  return choice.logprobs.content.map((one) => {
    const top = one.top_logprobs.map((other) => [other.token, other.logprob]);
    if (!top.some(([name]) => name === one.token)) top.push([one.token, one.logprob]);
    return { text: one.token.startsWith("bytes:") ? "" : one.token, logprob: one.logprob, top: ranked(top, one.logprob) };
  });
}

function ranked(entries, drawn) {
  return entries.map(([text, logprob]) => ({ text, logprob, drawn: logprob === drawn })).sort((a, b) => b.logprob - a.logprob);
}

function begin(...stops) {
  running?.abort();
  running = new AbortController();
  for (const stop of stops) stop.disabled = false;
  say("…");
  return running;
}

function end(started, controller, count, ...stops) {
  if (running !== controller) return;
  running = null;
  for (const stop of stops) stop.disabled = true;
  const seconds = (performance.now() - started) / 1000;
  if (count) say(`${count} tokens in ${seconds.toFixed(1)} s, ${(count / seconds).toFixed(0)} a second`);
}

// --- writing

async function write() {
  const controller = begin($("stop")), started = performance.now(), output = $("output");
  const prompt = $("prompt").value, echo = $("echo").checked;
  output.replaceChildren();
  forget();
  let count = 0, left = echo ? prompt.length : 0;
  try {
    const answer = await ask("/v1/completions", { prompt, echo, stream: true, logprobs: 8, ...sampling() }, controller.signal);
    for await (const event of events(answer)) {
      const choice = event.choices[0];
      if (!choice.logprobs) continue;
      for (const { text, logprob, top } of tokensOfCompletion(choice)) {
        const made = tokenOf(text, logprob, top, left > 0 && logprob === null);
        if (left > 0) made.classList.add("of-prompt");
        else count += 1;
        left -= text.length;
        output.append(made);
      }
    }
    end(started, controller, count, $("stop"));
  } catch (error) {
    failed(error, started, controller, count, $("stop"));
  }
}

function failed(error, started, controller, count, stop) {
  end(started, controller, count, stop);
  if (error.name !== "AbortError") say(error.message, true);
}

// --- chat

async function chat() {
  const text = $("message").value.trim();
  if (!text) return;
  const controller = begin($("stop-chat")), started = performance.now();
  conversation.push({ role: "user", content: text });
  $("message").value = "";
  const box = element("div", { class: "tokens", role: "listbox", tabindex: "0", "aria-label": "Tokens of the answer" });
  $("log").append(element("div", { class: "turn user", text }), element("div", { class: "turn assistant" }, box));
  listenTo(box);
  let said = "", count = 0;
  try {
    const body = { messages: conversation, stream: true, logprobs: true, top_logprobs: 8, ...sampling() };
    for await (const event of events(await ask("/v1/chat/completions", body, controller.signal))) {
      const choice = event.choices[0];
      said += choice.delta.content ?? "";
      for (const { text, logprob, top } of choice.logprobs?.content ? tokensOfChat(choice) : []) {
        box.append(tokenOf(text, logprob, top, false));
        count += 1;
      }
      $("log").scrollTop = $("log").scrollHeight;
    }
    end(started, controller, count, $("stop-chat"));
  } catch (error) {
    failed(error, started, controller, count, $("stop-chat"));
  }
  if (said) conversation.push({ role: "assistant", content: said });
  else conversation.pop();
}

// --- attention

async function look() {
  const turns = [...document.querySelectorAll("#log .turn")];
  const said = turns.map((turn) => textOf(turn.querySelectorAll(".token")) || turn.textContent).join("\n");
  const echoed = $("output").querySelector(".of-prompt");
  const written = (echoed ? "" : $("prompt").value) + textOf($("output").children);
  const text = ($("chat").hidden ? written : said).slice(-2000);
  try {
    map = await (await ask("/api/attention", { text: text || " ", layer: Number($("layer").value) })).json();
    mapRow = map.tokens.length - 1;
    draw();
  } catch (error) {
    say(error.message, true);
  }
}

function weights() {
  // of the chosen head, or the mean of all
  const head = $("head").value;
  if (head !== "mean") return map.weights[Number(head)];
  return map.tokens.map((_, i) => map.tokens.map((_, j) => map.weights.reduce((sum, one) => sum + one[i][j], 0) / map.weights.length));
}

function draw() {
  if (!map) return;
  const canvas = $("map"), context = canvas.getContext("2d"), size = map.tokens.length;
  const style = getComputedStyle(document.documentElement);
  const cell = Math.max(4, Math.floor(640 / size)), its = weights();
  canvas.width = canvas.height = cell * size;
  context.fillStyle = style.getPropertyValue("--card");
  context.fillRect(0, 0, canvas.width, canvas.height);
  its.forEach((row, i) => row.forEach((weight, j) => {
    if (j > i) return;
    context.fillStyle = `rgba(${style.getPropertyValue("--hot")}, ${Math.min(1, 0.05 + 0.95 * Math.sqrt(weight))})`;
    context.fillRect(j * cell, i * cell, cell, cell);
  }));
  context.strokeStyle = style.getPropertyValue("--focus");
  context.lineWidth = Math.max(2, cell / 8);
  context.strokeRect(0, mapRow * cell, (mapRow + 1) * cell, cell);
  const row = its[mapRow];
  const most = row.map((weight, j) => [weight, j]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  const told = most.filter(([weight]) => weight >= 0.01).map(([weight, j]) => `${visible(map.tokens[j])} ${(100 * weight).toFixed(0)} %`);
  canvas.setAttribute("aria-label", `Attention of ${size} tokens. Row ${mapRow + 1}, ${visible(map.tokens[mapRow])}, reads ${told.join(", ")}`);
  $("reads").replaceChildren(...map.tokens.slice(0, mapRow + 1).map((text, j) => {
    const made = element("span", { class: j === mapRow ? "token chosen" : "token", text: text.startsWith("bytes:") ? "�" : text });
    made.style.setProperty("--surprise", Math.sqrt(row[j]).toFixed(3));
    return made;
  }));
}

function moveRow(to) {
  if (!map) return;
  mapRow = Math.max(0, Math.min(map.tokens.length - 1, to));
  draw();
}

// --- start

function forget() {
  $("token-said").textContent = "Point at a token, or move to one with the arrow keys, to see what else the model had in mind.";
  $("alternatives").replaceChildren();
}

function showTab(name) {
  forget();
  for (const one of ["write", "chat"]) {
    const chosen = one === name;
    $(one).hidden = !chosen;
    $(`tab-${one}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${one}`).tabIndex = chosen ? 0 : -1;
  }
}

function makeSliders() {
  for (const { name, label, min, max, step, value } of SLIDERS) {
    const input = element("input", { type: "range", id: `slider-${name}`, min, max, step, value });
    const output = element("output", { for: `slider-${name}`, text: value });
    input.addEventListener("input", () => { output.textContent = input.value; });
    input.initial = value;
    $("sliders").append(element("label", { for: `slider-${name}` }, element("span", { text: label }), output, input));
  }
  $("reset").addEventListener("click", () => {
    for (const input of $("sliders").querySelectorAll("input")) {
      input.value = input.initial;
      input.dispatchEvent(new Event("input"));
    }
  });
}

function submitOnEnter(area, call, plain) {
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || (plain ? event.shiftKey : !(event.ctrlKey || event.metaKey))) return;
    event.preventDefault();
    call();
  });
}

async function connect() {
  try {
    const listed = await (await ask("/v1/models")).json();
    model = listed.data[0];
    $("model").textContent = `${model.id}, ${model.layers} layers, context ${model.context_length}`;
    $("layer").replaceChildren(...Array.from({ length: model.layers }, (_, i) => element("option", { value: i, text: i })));
    $("head").replaceChildren(element("option", { value: "mean", text: "mean" }),
      ...Array.from({ length: model.heads }, (_, i) => element("option", { value: i, text: i })));
    say("");
  } catch (error) {
    $("model").textContent = "";
    say(error.message, true);
  }
}

makeSliders();
listenTo($("output"));
$("write-form").addEventListener("submit", (event) => { event.preventDefault(); write(); });
$("chat-form").addEventListener("submit", (event) => { event.preventDefault(); chat(); });
for (const id of ["stop", "stop-chat"]) $(id).addEventListener("click", () => running?.abort());
$("forget").addEventListener("click", () => { conversation = []; $("log").replaceChildren(); running?.abort(); });
submitOnEnter($("prompt"), write, false);
submitOnEnter($("message"), chat, true);
for (const name of ["write", "chat"]) {
  $(`tab-${name}`).addEventListener("click", () => showTab(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const other = name === "write" ? "chat" : "write";
    showTab(other);
    $(`tab-${other}`).focus();
  });
}
$("look").addEventListener("click", look);
$("layer").addEventListener("change", look);
$("head").addEventListener("change", draw);
$("map").addEventListener("keydown", (event) => {
  const steps = { ArrowUp: mapRow - 1, ArrowDown: mapRow + 1, Home: 0, End: Infinity };
  if (!(event.key in steps)) return;
  event.preventDefault();
  moveRow(steps[event.key]);
});
$("map").addEventListener("pointermove", (event) => {
  if (map) moveRow(Math.floor(event.offsetY / $("map").clientHeight * map.tokens.length));
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
$("key").addEventListener("change", connect);
$("access-form").addEventListener("submit", (event) => { event.preventDefault(); connect(); });
connect();
