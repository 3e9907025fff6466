// Imports files with the code of speedscope's page, and compares the weights it finds with those in the files.
// usage: node speedscope.js FILE...
const fs = require('fs');
const path = require('path');
const vm = require('vm');

// The page wants a document; its importers do not.
const nothing = new Proxy(function () {}, {
  get: (_, key) => (key === Symbol.toPrimitive ? () => '' : key === Symbol.iterator ? function* () {} : nothing),
  apply: () => nothing, construct: () => nothing, has: () => true, set: () => true,
});
for (const name of ['window', 'document', 'location', 'localStorage', 'history', 'requestAnimationFrame', 'addEventListener',
  'matchMedia', 'HTMLElement', 'FontFace', 'Image', 'indexedDB']) {
  if (!(name in globalThis)) globalThis[name] = nothing;
}
globalThis.self = globalThis;

const release = path.join(path.dirname(require.resolve('speedscope/package.json')), 'dist/release');
const page = fs.readdirSync(release).find(f => /^speedscope-.*\.js$/.test(f));
let code = fs.readFileSync(path.join(release, page), 'utf8');
const place = /(async )?function (\w+)\(\w+,\w+\)\{return\(await \w+\)\.importProfileGroupFromBase64\(\w+,\w+\)\}/;
const found = place.exec(code);
if (!found) { console.log('skipped: this version of speedscope has its importer elsewhere'); process.exit(0); }
code = code.replace(place, whole => `${whole}globalThis.importIt=${found[2]};`);
const log = console.log; console.log = () => {};
try { vm.runInThisContext(code); } catch (e) { if (!globalThis.importIt) throw e; }
process.on('uncaughtException', () => {}); process.on('unhandledRejection', () => {});

const weights = (file, text) => {
  if (!file.endsWith('.json')) return [text.trim().split('\n').reduce((sum, l) => sum + Number(l.slice(l.lastIndexOf(' '))), 0)];
  return JSON.parse(text).profiles.map(p => p.weights.reduce((a, b) => a + b, 0));
};
(async () => {
  let failed = false;
  for (const file of process.argv.slice(2)) {
    const text = fs.readFileSync(file, 'utf8');
    const group = await globalThis.importIt(path.basename(file), Buffer.from(text).toString('base64'));
    const totals = group ? group.profiles.map(p => p.getTotalWeight()) : [];
    const wanted = weights(file, text);
    const names = group ? group.profiles.map(p => p.getName()).join(', ') : 'nothing';
    const same = JSON.stringify(totals) === JSON.stringify(wanted);
    failed ||= !same;
    log(`speedscope: ${path.basename(file)}: ${names}: weights ${totals}${same ? '' : `, in the file ${wanted}`}`);
  }
  process.exit(failed ? 1 : 0);
})();
