// Requests to the broker. The token is kept for this tab, and sent in a header: a cookie would go to every port of this host.

const KEY = 'ringmq-token';

export const token = () => sessionStorage.getItem(KEY);
export const setToken = value =>
  value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY);

// A link may bring a token behind the #, which is not sent to anybody.
const brought = location.hash.match(/^#token=(.+)$/);
if (brought) {
  setToken(decodeURIComponent(brought[1]));
  history.replaceState(null, '', '#/');
}

/** What the broker, or the way to it, has to complain of. */
export class Problem extends Error {
  constructor(status, detail, fix) {
    super(detail);
    this.status = status;
    this.fix = fix;
  }
}

/** Status 0: nobody answers. */
export async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: 'no-store' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(
      0,
      'The broker does not answer',
      'This page goes on by itself when it is back.',
    );
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
  throw new Problem(answer.status, problem.detail, problem.fix);
}

export const read = async (path, options) => (await ask(path, options)).json();

export const change = (path, order, method = 'POST') =>
  read(path, {
    method,
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(order),
  });

/** What stands between two ends, as it comes: several at once. */
async function* parts(path, end, signal) {
  const answer = await ask(path, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (rest + value).split(end);
    rest = whole.pop();
    if (whole.length) yield whole;
  }
}

/** The lines of an answer that goes on, some at a time. */
export const lines = (path, signal) => parts(path, '\n', signal);

/** Server-sent events, one after the other: `{ name, content }`. */
export async function* events(path, signal) {
  for await (const some of parts(path, '\n\n', signal)) {
    for (const event of some) {
      const [, name, content] = event.match(/^event: (\w+)\ndata: (.*)$/);
      yield { name, content: JSON.parse(content) };
    }
  }
}
