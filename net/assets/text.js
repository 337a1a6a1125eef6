// Numbers as people read them.

const WHOLE = new Intl.NumberFormat('en');

/** 98,412 */
export const count = n => WHOLE.format(n);

/** Three digits and a unit: 182 k, 1.2 M, 7. */
export function short(n, units = ['', ' k', ' M', ' G', ' T'], base = 1000) {
  let unit = 0;
  while (Math.abs(n) >= base * 0.9995 && unit < units.length - 1) {
    n /= base;
    unit += 1;
  }
  const digits = n >= 99.95 || (unit === 0 && Number.isInteger(n)) ? 0 : n >= 9.995 ? 1 : 2;
  return n.toFixed(digits).replace(/\.0+$|(\.\d)0$/, '$1') + units[unit];
}

/** 7.9 MiB */
export const bytes = n => short(n, [' B', ' KiB', ' MiB', ' GiB', ' TiB'], 1024);

/** 37 % */
export const percent = share =>
  `${share < 0.0995 && share > 0.0005 ? (share * 100).toFixed(1) : Math.round(share * 100)} %`;

/** 3 d 4 h */
export function span(seconds) {
  const units = [
    [86400, 'd'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's'],
  ];
  let at = units.findIndex(([size]) => seconds >= size);
  if (at < 0) at = 3;
  const [size, name] = units[at];
  const [next, after] = units[at + 1] ?? [];
  const rest = next ? Math.floor((seconds % size) / next) : 0;
  return `${Math.floor(seconds / size)} ${name}${rest ? ` ${rest} ${after}` : ''}`;
}

/** 3 shards */
export const many = (n, noun) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`;
