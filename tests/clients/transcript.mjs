// What every script here prints: a line for each step, what was done and what came back.
//
//     node ioredis.mjs PORT direct|proxy [MORE...]
//
// The same script is run against one server and through the proxy; the lines must be equal.
import { createHash } from 'node:crypto';

export const port = Number(process.argv[2]);
export const through = process.argv[3] === 'proxy';
export const more = process.argv.slice(4);
const PATIENCE = 8000;
const REFUSAL = /not served by this proxy/;
const LATE = new Error('no answer came');

export function big(size) {             // bytes of every value, always the same
    return Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 7 + (i >> 8)) & 255));
}

function plain(v) {
    if (Buffer.isBuffer(v)) return brief(v, 'b:' + v.toString('latin1'));
    if (typeof v === 'string') return brief(Buffer.from(v), v);
    if (typeof v === 'bigint') return `${v}n`;
    if (v === undefined) return 'undefined';
    if (v instanceof Error) return { error: kind(v) };
    if (v instanceof Map) return { map: [...v].map(plain) };
    if (v instanceof Set) return { set: [...v].map(plain) };
    if (Array.isArray(v)) return v.map(plain);
    if (v && typeof v === 'object') return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, plain(x)]));
    return v;
}

function brief(bytes, text) {
    return bytes.length <= 100 ? text : `${bytes.length} bytes, ${createHash('sha1').update(bytes).digest('hex')}`;
}

function kind(e) {                      // its class, and what kind of message
    return `${e.constructor.name}: ${String(e.message).split(/\s+/).slice(0, 3).join(' ')}`;
}

function within(promise, patience) {
    let timer;
    const late = new Promise((_, fail) => { timer = setTimeout(() => fail(LATE), patience); });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function outcome(work, patience = PATIENCE) {
    try {
        return { value: await within((async () => work())(), patience) };
    } catch (error) {
        return { error };
    }
}

export function tell(name, what) {
    console.log(`${name}: ${what}`);
}

export async function step(name, work) {
    const { value, error } = await outcome(work);
    tell(name, error ? kind(error) : JSON.stringify(plain(value)));
    return value;
}

// The proxy refuses this by design, and says so in time; a server alone is not asked.
// `alive` is asked afterwards. `why` is what the error must say.
export async function refused(name, work, alive, why = REFUSAL) {
    if (!through) {
        tell(name, 'refused');
    } else {
        const { value, error } = await outcome(work, 2000);
        const said = error && [error, error.cause, ...(error.errors ?? []), error.previousErrors?.[0]]
            .map((e) => e?.message).join(' ');
        tell(name, error === LATE ? 'NO ANSWER CAME' : !error ? `NOT REFUSED: ${JSON.stringify(plain(value))}` :
            why.test(said) ? 'refused' : `REFUSED OTHERWISE: ${error.constructor.name}: ${said}`);
    }
    if (alive) await step(`after ${name}`, alive);
}

export function quietly() {}            // a library's own tale of an error that its caller is told, too

export function end() {                 // whatever a library still wants to do
    process.exit(0);
}

process.on('unhandledRejection', (e) => { tell('unhandled', `${e.constructor.name}: ${e.message}`); });
process.on('uncaughtException', (e) => { tell('uncaught', `${e.constructor.name}: ${e.message}`); process.exit(1); });
