/**
 * Frames of the service's event streams: text in pieces of any size in, events out.
 *
 * Lines end with LF and have a space after the colon, and data is one line, as docs/protocol.md says. A frame without
 * its blank line is dropped.
 */

/**
 * @typedef {{id: string, event?: string, data?: string, retry?: string}} Frame `id` is the last id so far, the
 *   frame's own or not
 * @param {(frame: Frame) => void} dispatch
 * @returns {(text: string) => void} to be called with each piece
 */
export function decoder(dispatch) {
  let rest = "";
  let id = "";
  return (text) => {
    const frames = (rest + text).split("\n\n");
    rest = /** @type {string} */ (frames.pop());
    for (const frame of frames) {
      /** @type {Frame} */
      const fields = { id, ...Object.fromEntries(frame.split("\n").map((line) => line.split(/: (.*)/s))) };
      ({ id } = fields);
      dispatch(fields);
    }
  };
}
