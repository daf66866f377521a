import { mount, unmount } from "svelte";

import Bar from "./Bar.svelte";
import { proxy } from "./svelte-props.svelte.js";

const props = proxy({ id: new URLSearchParams(location.search).get("job") });
const app = mount(Bar, { target: document.getElementById("app"), props });
Object.assign(window, { show: (other) => (props.id = other), unmount: () => unmount(app) });
