// express-session with connect-redis and node-redis: sessions of a web application, over HTTP.
import http from 'node:http';
import session from 'express-session';
import { RedisStore } from 'connect-redis';
import { createClient } from 'redis';
import { end, port, quietly, step } from './transcript.mjs';

const client = createClient({ socket: { host: '127.0.0.1', port, reconnectStrategy: false } }).on('error', quietly);
await step('connect', async () => { await client.connect(); return client.isReady; });
const store = new RedisStore({ client, prefix: 'sess:', scanCount: 5 });
const use = session({ store, secret: 'for the test', resave: false, saveUninitialized: false });
const server = http.createServer((request, response) => use(request, response, (error) => {
    if (error) {
        response.statusCode = 500;
        response.end(error.message);
    } else if (request.url === '/out') {
        request.session.destroy((e) => response.end(e ? e.message : 'out'));
    } else {
        request.session.views = (request.session.views ?? 0) + 1;
        response.end(`view ${request.session.views}`);
    }
}));
await new Promise((done) => server.listen(0, '127.0.0.1', done));

async function visit(path, cookie) {
    return new Promise((done, fail) => http.get({ host: '127.0.0.1', port: server.address().port, path, agent: false,
        headers: cookie ? { cookie } : {} }, (response) => {
        let body = '';
        response.on('data', (some) => { body += some; });
        response.on('end', () => done({ body, status: response.statusCode,
            cookie: response.headers['set-cookie']?.[0].split(';')[0] ?? cookie }));
    }).on('error', fail));
}

const cookies = [];
await step('twenty visitors', async () => {
    const got = await Promise.all(Array.from({ length: 20 }, () => visit('/')));
    cookies.push(...got.map((g) => g.cookie));
    return got.map((g) => [g.status, g.body]);
});
await step('they come again', async () => (await Promise.all(cookies.map((c) => visit('/', c)))).map((g) => g.body));
await step('one leaves', async () => (await visit('/out', cookies[0])).body);
await step('it comes back as a stranger', async () => (await visit('/', cookies[0])).body);
const all = (name) => new Promise((done, fail) => store[name]((e, got) => (e ? fail(e) : done(got))));
await step('length', () => all('length'));
await step('all', async () => (await all('all')).map((s) => s.views).sort());
await step('they expire', async () => (await client.ttl((await client.keys('sess:*'))[0])) > 86000);
await step('clear', async () => [await all('clear'), await all('length')]);
server.close();
end();
