// An app's user with a bucket: everything that Textile's Buckets class does, and what each step showed, as JSON on stdout.
const { Buckets, PrivateKey } = require('@textile/hub')

async function main ([host, key, secret]) {
  const seen = {}
  const buckets = await Buckets.withKeyInfo({ key, secret }, { host })
  await buckets.getToken(PrivateKey.fromRandom())
  const { root, threadID } = await buckets.getOrCreate('photos')
  seen.again = (await buckets.getOrCreate('photos')).root.key === root.key
  seen.thread = threadID
  const content = Buffer.alloc(300000, 7)
  const pushed = await buckets.pushPath(root.key, 'a/b.bin', { path: 'a/b.bin', content })
  seen.cid = pushed.path.cid.toString()
  await buckets.pushPath(root.key, 'a/ä ☃.txt', { path: 'a/ä ☃.txt', content: Buffer.from('snow') })
  seen.names = (await buckets.listPath(root.key, 'a')).item.items.map(item => item.name)
  const pieces = []
  for await (const piece of buckets.pullPath(root.key, 'a/b.bin')) pieces.push(Buffer.from(piece))
  seen.same = Buffer.concat(pieces).equals(content)
  await buckets.movePath(root.key, 'a/b.bin', 'c.bin')
  await buckets.removePath(root.key, 'a')
  seen.top = (await buckets.listPath(root.key, '')).item.items.map(item => item.name)
  const other = PrivateKey.fromRandom().public.toString()
  await buckets.pushPathAccessRoles(root.key, 'c.bin', new Map([[other, 2]]))
  seen.roles = (await buckets.pullPathAccessRoles(root.key, 'c.bin')).get(other)
  seen.links = await buckets.links(root.key, 'c.bin')
  seen.listed = (await buckets.list()).map(one => one.name)
  try {
    for await (const piece of buckets.pullPath(root.key, 'none')) seen.none = piece.length
  } catch (error) {
    seen.missing = error.message
  }
  seen.key = root.key
  return seen
}

main(process.argv.slice(2)).then(seen => {
  console.log(JSON.stringify(seen))
  process.exit(0)
}, error => {
  console.error(error)
  process.exit(1)
})
