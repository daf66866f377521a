/** Properties that can be changed after the component was mounted. */
export function proxy(given) {
  const props = $state(given);
  return props;
}
