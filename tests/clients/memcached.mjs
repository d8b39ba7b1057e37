// memcached, the npm package (text).
import { promisify } from 'node:util';
import Memcached from 'memcached';
import { big, end, port, refused, step } from './transcript.mjs';

const client = new Memcached(`127.0.0.1:${port}`, { timeout: 8000, retries: 0, failures: 1000 });
const call = (name) => promisify(client[name]).bind(client);
const [get, gets, getMulti, set, add, replace, append, prepend, cas, incr, decr, touch, del] = ['get', 'gets',
    'getMulti', 'set', 'add', 'replace', 'append', 'prepend', 'cas', 'incr', 'decr', 'touch', 'del'].map(call);
const said = (promise) => promise.catch((e) => `${e.message}`.split(/\s+/).slice(0, 3).join(' '));
const alive = () => get('alive');
const keys = Array.from({ length: 100 }, (_, i) => `${i}:key`);

await step('version', async () => (await call('version')()).length);
await step('set', () => set('alive', 'yes', 0));
await step('get', alive);
await step('get none', () => get('none'));
await step('add', async () => [await add('new', '1', 0), await said(add('new', '2', 0))]);
await step('replace', async () => [await replace('new', '3', 0), await said(replace('none', 'x', 0))]);
await step('append', async () => [await append('new', '4'), await prepend('new', '2'), await get('new')]);
await step('incr', async () => [await incr('new', 6), await decr('new', 41), await incr('none', 1)]);
await step('cas', async () => [await cas('alive', 'yes', (await gets('alive')).cas, 0),
    await said(cas('alive', 'no', '1', 0))]);
await step('touch', async () => [await touch('alive', 1000), await said(touch('none', 1000))]);
await step('del', async () => [await del('new'), await del('new')]);
await step('many', () => Promise.all(keys.map((k) => set(k, `value of ${k}`, 0))));
await step('get multi', async () => Object.entries(await getMulti([...keys, 'none'])).sort());
await step('values of all kinds', async () => [await set('json', { n: [1, 2] }, 0), await get('json'),
    await set('number', 7, 0), await get('number'), await set('true', true, 0), await get('true')]);
await step('900 KiB', () => set('big', big(450 << 10).toString('hex'), 0));     // it counts a byte over 127 twice
await step('900 KiB back', () => get('big'));
await step('binary', async () => [await set('b', Buffer.from([0, 13, 10, 255]), 0), await get('b')]);
await step('incr of text', () => incr('alive', 1));
await step('key too long', () => get('k'.repeat(251)));
await step('after an error', alive);
await step('stats', async () => (await call('stats')()).map((s) =>
    ['pid', 'curr_items', 'version'].filter((k) => k in s)));
await refused('flush', () => call('flush')(), alive);
client.end();
end();
