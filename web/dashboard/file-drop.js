/**
 * Take files that are dropped anywhere on the page. Without this the browser would open them in its place.
 * @param {(file: File) => void} take
 */
export function listenForFiles(take) {
  const over = (/** @type {boolean} */ here) => document.body.classList.toggle("dropping", here);
  const holds = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    over(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) over(false);
  });
  document.addEventListener("drop", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    over(false);
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  });
}
