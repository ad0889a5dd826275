'use strict';
// Asks the server what it is, and makes the commands ready to copy. No library, no other origin, nothing stored.

const ASK_EVERY_MS = 10_000;
const GIVE_UP_MS = 5_000;
const REGISTRATION = {
  REGISTRATION_MODE_SETUP_CODE: 'with the set-up code',
  REGISTRATION_MODE_INVITE: 'by invite',
  REGISTRATION_MODE_OPEN: 'open to anyone',
  REGISTRATION_MODE_CLOSED: 'closed',
};
const FEATURE = {
  SERVER_FEATURE_BUILT_IN_MODEL: 'Built-in model',
  SERVER_FEATURE_REMOTE_MODELS: 'Remote models',
  SERVER_FEATURE_IMAGE_ANALYSIS: 'Pictures',
  SERVER_FEATURE_TRANSCRIPTION: 'Listening',
  SERVER_FEATURE_SPEECH: 'Speaking',
  SERVER_FEATURE_DOCUMENTS: 'Documents',
  SERVER_FEATURE_PUSH: 'Push messages',
  SERVER_FEATURE_MCP: 'MCP',
  SERVER_FEATURE_SEALED_SESSIONS: 'Sealed sessions',
};

const at = (id) => document.getElementById(id);
const put = (id, text) => { if (at(id).textContent !== text) at(id).textContent = text; };

function tell(state, text) {
  at('status').dataset.state = state;
  put('status-text', text); // a screen reader hears it when it changes, not each time it is asked
}

async function ask() {
  const began = performance.now();
  const answer = await fetch('v1/server', { signal: AbortSignal.timeout(GIVE_UP_MS), cache: 'no-store' });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.message);
  put('latency', `${Math.max(1, Math.round(performance.now() - began))} ms`);
  return body;
}

function show(server) {
  put('name', server.serverName || 'Your assistant');
  put('version', server.version || '–');
  put('registration', REGISTRATION[server.registration] || '–');
  const known = (server.features || []).filter((feature) => FEATURE[feature]);
  at('features').replaceChildren(...known.map((feature) => {
    const item = document.createElement('li');
    item.textContent = FEATURE[feature];
    return item;
  }));
}

async function follow() {
  try {
    show(await ask());
    tell('good', 'Running');
  } catch (error) {
    tell('bad', error instanceof TypeError || error.name === 'TimeoutError' ? 'The server does not answer.' : error.message);
  }
  setTimeout(follow, ASK_EVERY_MS);
}

function readySetup() {
  const code = new URLSearchParams(location.hash.slice(1)).get('setup');
  at('setup').hidden = !code;
  put('setup-code', code || '');
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Not allowed'; // plain http beyond this machine: select it by hand
  }
  setTimeout(() => { button.textContent = 'Copy'; }, 2_000);
}

function readyCommands() {
  for (const command of document.querySelectorAll('.command')) {
    const code = command.querySelector('code');
    code.textContent = code.textContent.replaceAll('{url}', location.origin).replaceAll('{host}', location.host);
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'copy';
    button.textContent = 'Copy';
    button.setAttribute('aria-live', 'polite');
    button.addEventListener('click', () => copy(button, code.textContent));
    command.append(button);
  }
}

readySetup();
addEventListener('hashchange', readySetup);
readyCommands();
follow();
