// Retained sizes that memlab finds in a .heapsnapshot, beside those of the dump.
// usage: node memlab.js FILE.heapsnapshot OBJECTS.json MOST
const fs = require('fs');
const { TraceFinder, config, utils } = require('@memlab/core');
config.muteConsole = true;
const [file, listing, most] = process.argv.slice(2);

(async () => {
  const snapshot = await utils.getSnapshotFromFile(file, { buildNodeIdIndex: true });
  new TraceFinder().calculateAllNodesRetainedSizes(snapshot);
  const rows = JSON.parse(fs.readFileSync(listing)).tables[0].rows;
  let wanted = rows.map(([address, size, retained], i) => ({ address, size, retained, i }));
  if (Number(most) > 0) {
    // Those that retain most are in the file, in the order of their addresses.
    const kept = [...wanted].sort((a, b) => b.retained - a.retained).slice(0, Number(most));
    const least = kept[kept.length - 1].retained;
    wanted = wanted.filter(o => o.retained > least);
  }
  const objects = [];
  snapshot.nodes.forEach(n => { if (n.type === 'object' || n.type === 'string') objects.push(n); });
  let differ = 0, all = objects.length;
  if (Number(most) > 0) {
    // Several may retain the same at the edge: as multisets the bigger ones have to be there.
    const count = {};
    objects.forEach(n => { const k = `${n.self_size} ${n.retainedSize}`; count[k] = (count[k] || 0) + 1; });
    wanted.forEach(o => { const k = `${o.size} ${o.retained}`; if (!(count[k]-- > 0)) differ++; });
  } else {
    if (wanted.length !== all) { console.log(`memlab: ${all} objects, the dump has ${wanted.length} live ones`); process.exit(1); }
    objects.forEach((n, i) => {
      const o = wanted[i];
      if (n.self_size === o.size && n.retainedSize === o.retained) return;
      if (differ++ < 3) console.log(`${o.address}: memlab ${n.self_size} ${n.retainedSize}, here ${o.size} ${o.retained}`);
    });
  }
  const root = snapshot.nodes.get(0).retainedSize;
  console.log(`memlab: ${all} objects, ${differ} of ${wanted.length} retained sizes differ, all retain ${root} bytes`);
  process.exit(differ ? 1 : 0);
})();
