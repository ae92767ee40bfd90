// Under the pointer: a line through the same step of all charts, and the values of that step in their captions.
(() => {
  const make = (svg, name, attributes) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    return svg.appendChild(element);
  };
  const numbers = text => text.split(' ').map(Number);
  const charts = [...document.querySelectorAll('svg[data-axis]')].map(svg => {
    const [first, last, left, right, top, bottom] = numbers(svg.dataset.axis);
    const figure = svg.closest('figure');
    const shown = [...figure.querySelectorAll('.key b')];
    const lines = [...svg.querySelectorAll('path[data-steps]')].map((path, index) => ({
      steps: numbers(path.dataset.steps),
      values: path.dataset.values.split(' '),
      places: [...path.getAttribute('d').matchAll(/[ML](\S+) ([^ML]+)/g)],
      name: path.dataset.line,
      value: shown[index],
      last: shown[index] ? shown[index].textContent : '',
    }));
    const cross = make(svg, 'line', {class: 'cross', y1: top, y2: bottom});
    const at = make(svg, 'text', {class: 'cross tick', y: top - 3});
    for (const line of lines) line.dot = make(svg, 'circle', {class: 'dot cross ' + line.name, r: 3.5});
    return {svg, figure, at, first, last, left, right, cross, lines};
  });
  // The index of the step that is nearest.
  const nearest = (steps, step) => {
    let low = 0, high = steps.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] <= step) low = middle; else high = middle;
    }
    return Math.abs(steps[high] - step) < Math.abs(steps[low] - step) ? high : low;
  };
  const show = (chart, pointer) => {
    const box = chart.svg.getBoundingClientRect();
    const x = (pointer.clientX - box.left) / box.width * chart.svg.viewBox.baseVal.width;
    const wanted = chart.first + (x - chart.left) / (chart.right - chart.left) * (chart.last - chart.first);
    const steps = chart.lines.map(line => line.steps[nearest(line.steps, wanted)]);
    const step = steps.sort((a, b) => Math.abs(a - wanted) - Math.abs(b - wanted))[0];
    for (const other of charts) {
      const at = other.left + (step - other.first) / (other.last - other.first) * (other.right - other.left);
      other.figure.classList.add('hover');
      other.cross.setAttribute('x1', at);
      other.cross.setAttribute('x2', at);
      other.at.textContent = 'step ' + step.toLocaleString('en');
      other.at.setAttribute('x', at);
      other.at.setAttribute('text-anchor', at < other.left + 40 ? 'start' : at > other.right - 40 ? 'end' : 'middle');
      for (const line of other.lines) {
        const index = nearest(line.steps, step);
        line.dot.setAttribute('cx', line.places[index][1]);
        line.dot.setAttribute('cy', line.places[index][2]);
        if (line.value) line.value.textContent = line.values[index];
      }
    }
  };
  const hide = () => {
    for (const chart of charts) {
      chart.figure.classList.remove('hover');
      for (const line of chart.lines) if (line.value) line.value.textContent = line.last;
    }
  };
  for (const chart of charts) {
    chart.svg.addEventListener('pointermove', event => show(chart, event));
    chart.svg.addEventListener('pointerdown', event => show(chart, event));
    chart.svg.addEventListener('pointerleave', hide);
  }
})();
