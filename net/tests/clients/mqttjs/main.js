'use strict'
// Checks an MQTT broker with mqtt.js, speaking 3.1.1 and 5.0.
//
// Usage: main.js HOST PORT [SCENARIO...]
//
// Prints one line per scenario, `ok NAME` or `FAIL NAME: why`, and exits with 1 if one failed. Every scenario runs
// with PAIRS pairs of client ids at once, so that publishers and subscribers meet on every shard of a broker that
// places clients by a hash of their id.

const { Place } = require('./client.js')
const scenarios = require('./scenarios.js')

const PAIRS = 8

async function main([host, port, ...wanted]) {
  let failed = 0
  const runs = []
  for (const version of [4, 5]) {
    for (const [name, body] of Object.entries({ ...scenarios.common, ...(version === 5 ? scenarios.v5 : {}) })) {
      if (wanted.length > 0 && !wanted.includes(name)) continue
      runs.push({ name: `${version === 4 ? '3.1.1' : '5.0'}/${name}`, version, body })
    }
  }
  // Those that wait for time to pass come first and run beside the others.
  const background = runs.filter((run) => scenarios.timed.has(run.body))
    .map((run) => runPairs(run, host, Number(port)).then((problem) => [run.name, problem]))
  const report = ([name, problem]) => {
    failed += problem ? 1 : 0
    console.log(problem ? `FAIL ${name}: ${problem}` : `ok ${name}`)
  }
  for (const run of runs.filter((each) => !scenarios.timed.has(each.body))) {
    report([run.name, await runPairs(run, host, Number(port))])
  }
  for (const each of background) report(await each)
  process.exit(failed > 0 ? 1 : 0)
}

/** Runs one scenario for every pair of client ids; the first problem, or null. */
async function runPairs({ name, version, body }, host, port) {
  const tag = `js-${process.pid}-${name.replace('/', '-')}`
  const places = Array.from({ length: PAIRS }, (_, index) => new Place(host, port, version, `${tag}-${index}`))
  const problems = await Promise.all(places.map(async (place) => {
    try {
      await body(place)
      return null
    } catch (error) {
      return `${place.tag}: ${error.message}`
    } finally {
      await place.closeAll()
    }
  }))
  return problems.find((problem) => problem) ?? null
}

main(process.argv.slice(2))
