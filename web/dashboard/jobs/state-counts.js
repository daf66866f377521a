/**
 * How many jobs are in which state, also those that are not loaded. No event tells of it, so it is polled while the list
 * is in view.
 */

const EVERY_MS = 2000;

/**
 * @param {import("../../jobs.js").Headway} client
 * @param {() => import("./job-filter.js").JobFilter | null} wanted null: nobody looks
 * @param {(counts: Record<string, number> | null) => void} draw null: not known
 * @returns {() => Promise<void>} asks at once
 */
export function watchCounts(client, wanted, draw) {
  let asking = false;
  const look = async () => {
    const filter = wanted();
    if (!filter || asking || document.hidden) return;
    // The service counts by state and type alone.
    if (filter.group || Object.keys(filter.labels).length > 0) {
      draw(null);
      return;
    }
    asking = true;
    try {
      const { states, types } = await client.counts();
      if (wanted() === filter) draw(filter.type ? (types[filter.type] ?? {}) : states);
    } catch {
      // The connection's state says why. Nothing is shown that may be outdated.
      draw(null);
    } finally {
      asking = false;
    }
  };
  setInterval(look, EVERY_MS);
  return look;
}
