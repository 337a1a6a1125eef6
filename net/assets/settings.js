// The settings in force. They are changed in the configuration file.

import { html, useEffect, useState } from './vendor/preact.js';
import { read } from './api.js';
import { useLive } from './live.js';
import { Card, Empty, Facts, Table, Trouble } from './parts.js';

const HEAD = [
  ['Setting'],
  ['Value', 'value'],
  ['Default', 'value roomy'],
  ['What it does', 'roomy'],
];

export function Settings() {
  const { start } = useLive();
  const [settings, setSettings] = useState(null);
  const [problem, setProblem] = useState(null);
  const [word, setWord] = useState('');
  const [isChangedOnly, setChangedOnly] = useState(false);
  useEffect(() => {
    read('/api/v1/config').then(answer => setSettings(answer.settings), setProblem);
  }, [start?.pid]);

  const fits = row =>
    (!isChangedOnly || row.value !== row.default) &&
    `${row.section}.${row.key} ${row.value} ${row.help}`.toLowerCase().includes(word.toLowerCase());
  const shown = settings?.filter(fits) ?? [];
  const sections = [...new Set(shown.map(row => row.section))];
  return html`
    <h1>Settings <small>as they are in force; the configuration file changes them</small></h1>
    ${
      start &&
      html`<div class="card"><${Facts} facts=${[
        ['Listens on', start.listeners.join(', ')],
        ['Data', start.data_dir ?? 'in memory'],
        ['Process', start.pid],
      ]} /></div>`
    }
    <form class="tools" onSubmit=${event => event.preventDefault()}>
      <input type="search" placeholder="Find a setting" aria-label="Find a setting" value=${word} onInput=${event => setWord(event.target.value)} />
      <label><input type="checkbox" checked=${isChangedOnly} onChange=${event => setChangedOnly(event.target.checked)} /> only what differs from the default</label>
    </form>
    <${Trouble} problem=${problem} />
    ${settings && !shown.length && html`<${Empty}>${word ? 'No setting is like that.' : 'Every setting has its default.'}<//>`}
    ${sections.map(
      section => html`<${Card} key=${section} title=${`[${section}]`} kind="settings">
        <${Table} label=${section} head=${HEAD}>
          ${shown.filter(row => row.section === section).map(row => html`<${Row} key=${row.key} row=${row} />`)}
        <//>
      <//>`,
    )}
  `;
}

const Row = ({ row }) =>
  html`<tr>
    <th scope="row"><code>${row.key}</code>${!row.needs_restart && html` <span class="tag" title="A reload takes it on">reloads</span>`}</th>
    <td class=${row.value === row.default ? 'value' : 'value loud'}>${row.value || '–'}</td>
    <td class="value roomy">${row.default || '–'}</td>
    <td class="help roomy">${row.help}</td>
  </tr>`;
