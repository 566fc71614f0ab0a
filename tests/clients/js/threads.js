// An app's user with a database: collections, queries, transactions and listeners of Textile's Client class, as JSON on stdout.
const { Client, PrivateKey, ThreadID, Users, Where } = require('@textile/hub')

const schema = {
  properties: { _id: { type: 'string' }, name: { type: 'string' }, missions: { type: 'number', minimum: 0 } }
}

async function until (holds) {
  for (let waited = 0; waited < 10000 && !holds(); waited += 20) await new Promise(resolve => setTimeout(resolve, 20))
}

async function main ([host, key, secret]) {
  const seen = {}
  const identity = PrivateKey.fromRandom()
  const client = await Client.withKeyInfo({ key, secret }, host)
  await client.getToken(identity)
  const db = ThreadID.fromRandom()
  await client.newDB(db, 'space')
  await client.newCollection(db, { name: 'astronauts', schema, indexes: [{ path: 'name', unique: true }] })
  seen.info = await client.getCollectionInfo(db, 'astronauts')
  const events = []
  const listening = client.listen(db, [{ collectionName: 'astronauts' }], reply => reply && events.push(reply))
  await new Promise(resolve => setTimeout(resolve, 500))
  const ids = await client.create(db, 'astronauts', [{ _id: '', name: 'Buzz', missions: 2 }, { _id: '', name: 'Neil', missions: 2 }])
  seen.found = (await client.find(db, 'astronauts', new Where('name').eq('Neil'))).map(one => one.name)
  seen.many = (await client.find(db, 'astronauts', new Where('missions').ge(2).orderByDesc('name'))).map(one => one.name)
  const buzz = await client.findByID(db, 'astronauts', ids[0])
  await client.save(db, 'astronauts', [{ ...buzz, missions: 3 }])
  seen.missions = (await client.findByID(db, 'astronauts', ids[0])).missions
  seen.has = await client.has(db, 'astronauts', ids)
  try {
    await client.create(db, 'astronauts', [{ _id: '', name: 'Buzz', missions: 1 }])
  } catch (error) {
    seen.unique = error.message
  }
  const writing = client.writeTransaction(db, 'astronauts')
  await writing.start()
  await writing.create([{ _id: 'mike', name: 'Mike', missions: 2 }])
  seen.inside = await writing.has(['mike'])
  await writing.end()
  const reading = client.readTransaction(db, 'astronauts')
  await reading.start()
  seen.after = await reading.has(['mike'])
  await reading.end()
  await client.delete(db, 'astronauts', ['mike'])
  await until(() => events.length >= 5)
  listening.close()
  seen.events = events.map(event => [event.action, event.instance ? event.instance.name : null])
  seen.collections = (await client.listCollections(db)).map(one => one.name)
  seen.address = (await client.getDBInfo(db)).addrs.length
  await client.deleteCollection(db, 'astronauts')
  seen.left = (await client.listCollections(db)).length
  const users = await Users.withKeyInfo({ key, secret }, { host })
  await users.getToken(identity)
  seen.threads = (await users.listThreads()).map(one => one.name)
  seen.thread = (await users.getThread('space')).id === db.toString()
  await client.deleteDB(db)
  seen.gone = (await users.listThreads()).length
  return seen
}

main(process.argv.slice(2)).then(seen => {
  console.log(JSON.stringify(seen))
  process.exit(0)
}, error => {
  console.error(error)
  process.exit(1)
})
