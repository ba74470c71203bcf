// A table whose rows keep their elements, and with them focus and selection, when their contents change. What is selected
// is known here; the server hears of it by "select", and may end it by calling clear().
export default {
  template: `
    <div class="pd-table">
      <table :aria-label="label">
        <thead>
          <tr>
            <th v-if="selectable" scope="col" class="pd-col-select">
              <input type="checkbox" aria-label="Select all of these" :checked="all" :indeterminate.prop="some && !all"
                @change="turnAll($event.target.checked)">
            </th>
            <th v-for="column in columns" :key="column.name" scope="col" :class="look(column)">{{ column.title }}</th>
          </tr>
        </thead>
        <tbody>
          <tr v-for="row in rows" :key="row[rowKey]" :class="{ 'pd-chosen': chosen.includes(row[rowKey]) }">
            <td v-if="selectable" class="pd-col-select">
              <input type="checkbox" :aria-label="'Select ' + row[rowKey]" :checked="chosen.includes(row[rowKey])"
                @change="turn(row[rowKey], $event.target.checked)">
            </td>
            <td v-for="column in columns" :key="column.name" :class="look(column)">
              <a v-if="column.kind === 'link'" class="pd-link" :href="row[column.name + '_href']">{{ row[column.name] }}</a>
              <div v-else-if="column.kind === 'status'" class="pd-cell-status">
                <span class="pd-badge" :class="'pd-' + row[column.name + '_tone']">{{ row[column.name] }}</span>
                <span v-if="row[column.name + '_more']" class="pd-more" :title="row[column.name + '_more']">{{
                  row[column.name + '_more']
                }}</span>
              </div>
              <time v-else-if="column.kind === 'time'" :title="row[column.name + '_title']">{{ row[column.name] }}</time>
              <span v-else-if="column.kind === 'mono'" class="pd-mono">{{ row[column.name] }}</span>
              <template v-else>{{ row[column.name] }}</template>
            </td>
          </tr>
        </tbody>
      </table>
    </div>
  `,
  props: { columns: Array, rows: Array, rowKey: String, label: String, selectable: Boolean },
  emits: ["select"],
  data() {
    return { chosen: [] };
  },
  computed: {
    some() {
      return this.rows.some((row) => this.chosen.includes(row[this.rowKey]));
    },
    all() {
      return this.rows.length > 0 && this.rows.every((row) => this.chosen.includes(row[this.rowKey]));
    },
  },
  methods: {
    look(column) {
      return ["pd-col-" + column.kind, column.wide ? "pd-wide" : ""];
    },
    turn(key, on) {
      this.chosen = this.chosen.filter((each) => each !== key).concat(on ? [key] : []);
      this.$emit("select", this.chosen);
    },
    turnAll(on) {
      const here = this.rows.map((row) => row[this.rowKey]);
      this.chosen = this.chosen.filter((each) => !here.includes(each)).concat(on ? here : []);
      this.$emit("select", this.chosen);
    },
    clear() {
      this.chosen = [];
    },
  },
};
