import { createApp, h, ref } from "vue";

import Bar from "./Bar.vue";

const id = ref(new URLSearchParams(location.search).get("job"));
const app = createApp({ render: () => h(Bar, { id: id.value }) });
app.mount("#app");
Object.assign(window, { show: (other) => (id.value = other), unmount: () => app.unmount() });
