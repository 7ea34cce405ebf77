// Paper.

// Bokeh's canvases keep the size of the screen; paper gets pictures that shrink, and all texts.
function readyForPaper() {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    details.dataset.closed = "";
  }
  for (const plot of [...maps.plots, ...curves]) {
    const view = Bokeh.index.get_by_id(plot.id),
      box = document.querySelector(`[data-plot="${plot.name}"]`);
    const image = element("img", {
      class: "printed",
      alt: box.getAttribute("aria-label"),
      src: view.export("png").canvas.toDataURL(),
    });
    box.append(image);
  }
}

function backToScreen() {
  for (const details of document.querySelectorAll("details[data-closed]")) details.open = false;
  for (const image of document.querySelectorAll(".printed")) image.remove();
}
