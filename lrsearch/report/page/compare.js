"use strict";
// The charts of a comparison, drawn as they stand in the data: light, like paper.
const figure = JSON.parse(document.getElementById("data").textContent);
const place = document.getElementById("charts");
if (figure.data.length) {
  Plotly.newPlot(place, figure.data, figure.layout, { displayModeBar: false, responsive: true })
    .then(() => { document.documentElement.dataset.drawn = "all"; });
} else {
  place.hidden = true;
  document.documentElement.dataset.drawn = "all";
}
