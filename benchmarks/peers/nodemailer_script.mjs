// The script of the peer graphile-worker + nodemailer (see peer.py), with what their pages on performance and bulk mail
// advise: a local queue of 500 jobs, answers written in batches, jobs queued in batches, a pool of connections that
// stay open. Twice as many jobs as connections, so that none waits for the other.
import { readFileSync } from 'node:fs'
import { makeWorkerUtils, run, runMigrations, Logger } from 'graphile-worker'
import nodemailer from 'nodemailer'

const connections = Number(process.env.CONNECTIONS)
const quiet = new Logger(() => (level, message) => level === 'error' && console.error(message))
const worker = {
  connectionString: 'postgres:///' + process.env.PGDATABASE + '?host=' + encodeURIComponent(process.env.PGHOST)
    + '&user=' + process.env.PGUSER,
  concurrentJobs: 2 * connections,
  maxPoolSize: 2 * connections + 2,
  localQueue: { size: 500 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  logger: quiet,
}
const options = { preset: { worker } }

const people = () => readFileSync(process.env.RECIPIENTS, 'utf8').trim().split('\n').map(line => JSON.parse(line))

// A template as a function: the text between the names is cut once.
function compiled (template) {
  const parts = template.split(/QQ(name|goal|token)QQ/)
  return person => parts.map((part, n) => (n % 2 ? person[part] : part)).join('')
}

async function prepare () {
  const utils = await makeWorkerUtils(options)
  const began = performance.now()
  const all = people()
  for (let n = 0; n < all.length; n += 1000) {
    await utils.addJobs(all.slice(n, n + 1000).map(payload => ({ identifier: 'mail', payload })))
  }
  console.log((performance.now() - began) / 1000)
  await utils.release()
}

async function send () {
  const words = JSON.parse(readFileSync(process.env.TEMPLATE, 'utf8'))
  const [subject, text, html] = [words.subject, words.text, words.html].map(compiled)
  const transport = nodemailer.createTransport({
    host: '127.0.0.1', port: Number(process.env.SMTP_PORT), secure: false, ignoreTLS: true,
    pool: true, maxConnections: connections, maxMessages: Infinity,
  })
  const mail = person => transport.sendMail({
    from: 'Dashboard <a@example.org>',
    to: person.email,
    subject: subject(person),
    text: text(person),
    html: html(person),
    headers: {
      'List-Unsubscribe': `<http://localhost:8080/u/${person.token}>`,
      'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click',
    },
  })
  const runner = await run({ ...options, taskList: { mail } })
  await runner.promise
  transport.close()
}

await { migrate: () => runMigrations(options), prepare, send }[process.argv[2]]()
