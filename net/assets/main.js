// The page as a whole: what is on top, and which view is below.

import { html, render, useEffect, useState } from './vendor/preact.js';
import { setToken, token } from './api.js';
import { follow, live, restart, useLive } from './live.js';
import { Trouble } from './parts.js';
import { span } from './text.js';
import { Overview } from './overview.js';
import { Client, Clients } from './clients.js';
import { Losses } from './losses.js';
import { Settings } from './settings.js';
import { Topics } from './topics.js';
import { Trace, Traces } from './traces.js';

const VIEWS = [
  ['', 'Overview'],
  ['clients', 'Clients'],
  ['topics', 'Topics'],
  ['losses', 'Losses'],
  ['traces', 'Traces'],
  ['settings', 'Settings'],
];

const parse = () => location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);

function usePlace() {
  const [place, setPlace] = useState(parse);
  useEffect(() => {
    const go = () => {
      setPlace(parse());
      scrollTo(0, 0);
    };
    addEventListener('hashchange', go);
    return () => removeEventListener('hashchange', go);
  }, []);
  return place;
}

function Page() {
  const { state, start } = useLive();
  const [view, id, name] = usePlace();
  const skip = event => {
    event.preventDefault();
    document.querySelector('main').focus();
  };
  const title = VIEWS.find(([name]) => name === view)?.[1] ?? 'Overview';
  useEffect(() => {
    document.title = `${name ?? id ?? title} - Ringmq ${location.host}`;
  }, [view, id, name]);
  return html`
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <header class="top">
      <div class="in">
        <a class="brand" href="#/"><img src="/assets/icon.svg" alt="" width="24" height="24" />Ringmq</a>
        <${Health} />
        <nav aria-label="Views">
          ${
            state !== 'locked' &&
            VIEWS.map(
              ([name, text]) =>
                html`<a key=${name} href=${`#/${name}`} aria-current=${name === view ? 'page' : undefined}>${text}</a>`,
            )
          }
        </nav>
        <span class="ends">
          ${start && html`<span class="about">${start.version.split(' ')[0]}</span>`}
          <${Theme} />
          ${token() && state !== 'locked' && html`<button type="button" class="quiet" onClick=${leave}>Sign out</button>`}
        </span>
      </div>
    </header>
    <main id="main" tabindex="-1">
      ${state === 'lost' && html`<${Trouble} problem=${live.problem ?? { message: 'The broker does not answer', fix: 'This page goes on by itself when it is back' }} />`}
      ${state === 'locked' ? html`<${Door} />` : start && html`<${View} view=${view} id=${id} name=${name} />`}
    </main>
  `;
}

const View = ({ view, id, name }) => {
  if (view === 'clients')
    return id === undefined ? html`<${Clients} />` : html`<${Client} key=${id} id=${id} />`;
  if (view === 'topics') return html`<${Topics} />`;
  if (view === 'losses') return html`<${Losses} />`;
  if (view === 'traces')
    return /^\d+$/.test(id) ? html`<${Trace} key=${id} id=${id} />` : html`<${Traces} kind=${id} name=${name} />`;
  return view === 'settings' ? html`<${Settings} />` : html`<${Overview} />`;
};

function Health() {
  const { state, frame } = useLive();
  const [kind, text] =
    state === 'locked'
      ? ['', 'locked']
      : state === 'lost'
        ? ['bad', 'no connection']
        : !frame
          ? ['', 'connecting']
          : frame.stopping
            ? ['bad', 'stopping']
            : frame.draining
              ? ['bad', 'draining']
              : frame.ready
                ? ['good', 'ready']
                : ['bad', 'not ready'];
  return html`<span class=${`health ${kind}`}><i></i>${text}${state === 'live' && frame && html`<span class="up"> · up ${span(frame.uptime_s)}</span>`}</span>`;
}

const THEMES = { auto: 'as the system', light: 'light', dark: 'dark' };

function Theme() {
  const [theme, setTheme] = useState(localStorage.getItem('ringmq-theme') ?? 'auto');
  useEffect(() => {
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    localStorage.setItem('ringmq-theme', theme);
  }, [theme]);
  const names = Object.keys(THEMES);
  const next = () => setTheme(names[(names.indexOf(theme) + 1) % names.length]);
  return html`<button type="button" class="quiet" onClick=${next} aria-label=${`Theme: ${THEMES[theme]}`} title=${`Theme: ${THEMES[theme]}`}>
    <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true"><circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" stroke-width="1.6" />
      <path d=${theme === 'light' ? '' : theme === 'dark' ? 'M3 10a7 7 0 1 0 14 0a7 7 0 1 0-14 0' : 'M10 3a7 7 0 0 1 0 14z'} fill="currentColor" /></svg>
  </button>`;
}

function leave() {
  setToken(null);
  restart();
}

/** Where a token is needed. */
function Door() {
  const enter = event => {
    event.preventDefault();
    setToken(new FormData(event.target).get('token').trim());
    restart();
  };
  return html`<section class="card door">
    <h1>Sign in</h1>
    <p>Over TCP, the broker wants a token of the role viewer, or operator to disconnect clients. This makes one:</p>
    <pre>ringmq ctl token NAME operator</pre>
    ${token() && html`<${Trouble} problem=${live.problem} />`}
    <form onSubmit=${enter}>
      <label for="token">Token</label>
      <input id="token" name="token" type="password" required autocomplete="off" autofocus />
      <button type="submit" class="main">Sign in</button>
    </form>
    <p class="note">It is kept for this tab, until it is closed.</p>
  </section>`;
}

render(html`<${Page} />`, document.getElementById('page'));
follow();
