// Two users of an app who write to each other: Textile's Users class, as JSON on stdout.
const { PrivateKey, Users } = require('@textile/hub')

async function until (holds) {
  for (let waited = 0; waited < 10000 && !holds(); waited += 20) await new Promise(resolve => setTimeout(resolve, 20))
}

async function user (host, key, secret) {
  const identity = PrivateKey.fromRandom()
  const users = await Users.withKeyInfo({ key, secret }, { host })
  await users.getToken(identity)
  return { identity, users }
}

async function main ([host, key, secret]) {
  const seen = {}
  const ann = await user(host, key, secret)
  const bob = await user(host, key, secret)
  const text = new TextEncoder().encode('hello ☃')
  try {
    await ann.users.sendMessage(ann.identity, bob.identity.public, text)
  } catch (error) {
    seen.nowhere = error.message
  }
  const box = await bob.users.setupMailbox()
  await ann.users.setupMailbox()
  seen.again = (await bob.users.setupMailbox()) === box && (await bob.users.getMailboxID()) === box
  const events = []
  const listening = bob.users.watchInbox(box, reply => reply && events.push(reply.type ?? reply.action))
  await new Promise(resolve => setTimeout(resolve, 500))
  const sent = await ann.users.sendMessage(ann.identity, bob.identity.public, text)
  const second = await ann.users.sendMessage(ann.identity, bob.identity.public, new Uint8Array([1, 2, 3]))
  const inbox = await bob.users.listInboxMessages()
  seen.order = inbox.map(one => one.id === sent.id ? 'first' : one.id === second.id ? 'second' : 'other')
  seen.text = new TextDecoder().decode(await bob.identity.decrypt(inbox[1].body))
  seen.from = inbox[1].from === ann.identity.public.toString()
  seen.sentbox = (await ann.users.listSentboxMessages()).length
  seen.own = new TextDecoder().decode(await ann.identity.decrypt((await ann.users.listSentboxMessages())[1].body))
  await bob.users.readInboxMessage(sent.id)
  seen.read = (await bob.users.listInboxMessages({ ascending: true })).map(one => one.readAt !== undefined && one.readAt > 0)
  seen.page = (await bob.users.listInboxMessages({ seek: second.id, limit: 1 })).map(one => one.id === second.id)
  await bob.users.deleteInboxMessage(sent.id)
  await ann.users.deleteSentboxMessage(second.id)
  await until(() => events.length >= 4)
  listening.close()
  seen.events = events
  seen.left = [(await bob.users.listInboxMessages()).length, (await ann.users.listSentboxMessages()).length]
  return seen
}

main(process.argv.slice(2)).then(seen => {
  console.log(JSON.stringify(seen))
  process.exit(0)
}, error => {
  console.error(error)
  process.exit(1)
})
