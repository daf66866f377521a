/**
 * `<artifact-list>`: the files that a job made, to download, and to play or view where the browser can.
 */

import { element } from "../../element/dom.js";
import { size } from "../../element/format.js";

/** @typedef {import("../../jobs.js").Artifact} Artifact */

const HLS = new Set(["application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl"]);
/** HLS has hundreds of segments; a player for each would be useless. */
const MAX_PLAYERS = 3;

export class ArtifactList extends HTMLElement {
  #key = "";
  /** @type {Map<string, HTMLElement>} */ #players = new Map();

  /** Players are kept while other artifacts are added: playing is not interrupted. */
  set artifacts(/** @type {Artifact[]} */ artifacts) {
    const key = JSON.stringify(artifacts);
    if (key === this.#key) return;
    this.#key = key;
    const links = artifacts.map((artifact) => ({ artifact, url: ownUrl(artifact.url) }));
    const poster = posterOf(links);
    /** @type {Map<string, HTMLElement>} */
    const players = new Map();
    for (const { artifact, url } of links) {
      if (!url || url === poster || players.size >= MAX_PLAYERS) continue;
      const id = JSON.stringify(artifact);
      const made = this.#players.get(id) ?? player(artifact, url, poster);
      if (made) players.set(id, made);
    }
    for (const [id, old] of this.#players) if (!players.has(id)) old.remove();
    for (const [id, made] of players) if (!this.#players.has(id)) this.append(made);
    this.#players = players;
    this.querySelector("ul")?.remove();
    this.append(element("ul", { tabIndex: 0, ariaLabel: "Files" }, ...links.map(({ artifact, url }) => row(artifact, url))));
  }
}

/**
 * The poster of a video, which is shown by the player and not again beside it.
 * @param {{artifact: Artifact, url: URL | null}[]} links
 * @returns {URL | null}
 */
function posterOf(links) {
  const film = links.some(
    ({ artifact: { media_type: type } }) => type.startsWith("video/") || HLS.has(type),
  );
  const picture = links.find(({ artifact }) => /^poster\.\w+$/.test(artifact.name));
  return film ? (picture?.url ?? null) : null;
}

/**
 * An artifact's URL comes from outside: only one of our own origin becomes a link.
 * @param {string} text
 * @returns {URL | null}
 */
function ownUrl(text) {
  try {
    const url = new URL(text, location.href);
    return url.origin === location.origin ? url : null;
  } catch {
    return null;
  }
}

/**
 * @param {Artifact} artifact
 * @param {URL | null} url
 */
function row({ name, media_type: type, size: bytes }, url) {
  const label = element("span", { className: "foreign" }, name);
  return element(
    "li",
    {},
    url ? element("a", { href: url.href, download: name }, label) : label,
    element("span", { className: "note" }, ` ${type}, ${size(bytes)}`),
  );
}

/**
 * @param {Artifact} artifact
 * @param {URL} url
 * @param {URL | null} poster
 * @returns {HTMLElement | null}
 */
function player({ name, media_type: type }, url, poster) {
  const src = new URL(url);
  src.searchParams.set("play", "1");
  const common = { src: src.href, ariaLabel: name };
  const kind = HLS.has(type.toLowerCase()) ? "hls" : type.split("/")[0];
  if (kind === "image") return element("img", { src: src.href, alt: name, loading: "lazy" });
  if (kind === "audio") return element("audio", { ...common, controls: true, preload: "metadata" });
  if (kind !== "video" && kind !== "hls") return null;
  const video = element("video", { ...common, controls: true, preload: "metadata", playsInline: true });
  if (kind === "hls" && video.canPlayType(type) === "") {
    video.removeAttribute("src");
    return null;
  }
  if (poster) {
    const picture = new URL(poster);
    picture.searchParams.set("play", "1");
    video.poster = picture.href;
  }
  return video;
}

customElements.define("artifact-list", ArtifactList);
