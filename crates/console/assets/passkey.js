// The only script: it hands what the server asks for to the authenticator, and the answer back.
"use strict";

const toBytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const toText = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), credentials: "same-origin" });
  const value = await answer.json();
  if (value.onward && !answer.ok) { location.assign(value.onward); return new Promise(() => {}); }
  if (!answer.ok) throw new Error(value.error);
  return value;
}

function describe(error) {
  if (error.name === "NotAllowedError") return "The passkey was not used. Try again.";
  if (error.name === "InvalidStateError") return "This device has a passkey of yours already.";
  return error.message;
}

function on(id, work) {
  const form = document.getElementById(id);
  if (!form) return;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [button, message] = [form.querySelector("button"), form.querySelector(".error")];
    message.hidden = true;
    button.disabled = true;
    try {
      if (!window.PublicKeyCredential) throw new Error("This browser knows no passkeys.");
      location.assign(await work(form));
    } catch (error) {
      message.textContent = describe(error);
      message.hidden = false;
      button.disabled = false;
      button.focus();
    }
  });
}

on("passkey", async (form) => {
  const token = form.dataset.token;
  const { options, step } = await post("/login/passkey/begin", { token });
  const publicKey = options.publicKey;
  publicKey.challenge = toBytes(publicKey.challenge);
  publicKey.allowCredentials = [];
  const got = await navigator.credentials.get({ publicKey });
  const response = { authenticatorData: toText(got.response.authenticatorData), clientDataJSON: toText(got.response.clientDataJSON),
    signature: toText(got.response.signature), userHandle: got.response.userHandle ? toText(got.response.userHandle) : null };
  const answer = { id: got.id, rawId: toText(got.rawId), type: got.type, response, extensions: {} };
  return (await post("/login/passkey", { token, step, answer, onward: form.dataset.onward })).onward;
});

const enrol = (attested) => async (form) => {
  const token = form.dataset.token;
  const { options, step } = await post("/account/passkey/begin", { token, attested });
  const publicKey = options.publicKey;
  publicKey.challenge = toBytes(publicKey.challenge);
  publicKey.user.id = toBytes(publicKey.user.id);
  for (const one of publicKey.excludeCredentials ?? []) one.id = toBytes(one.id);
  const made = await navigator.credentials.create({ publicKey });
  const response = { attestationObject: toText(made.response.attestationObject), clientDataJSON: toText(made.response.clientDataJSON),
    transports: made.response.getTransports?.() ?? [] };
  const answer = { id: made.id, rawId: toText(made.rawId), type: made.type, response, extensions: {} };
  return (await post("/account/passkey", { token, step, answer, label: form.elements.label.value })).onward;
};
on("enrol", enrol(false));
on("enrol-attested", enrol(true));
