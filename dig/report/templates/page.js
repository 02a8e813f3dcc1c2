// Behaviour of the page: theme, contents, plots, tooltips, code tree. Text enters the page as text nodes alone.
(function () {
  "use strict";
  var root = document.documentElement;

  function read(element) {
    return JSON.parse(element.textContent);
  }

  function make(tag, name, text) {
    var element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // Theme: what the system asks for, until somebody chooses. Plots take their colours from the same variables.
  var toggle = document.getElementById("theme");
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  toggle.hidden = false;
  toggle.addEventListener("click", function () {
    var now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });

  // Contents: the part that is being read is marked, and its link kept in view.
  var links = {};
  document.querySelectorAll(".links a").forEach(function (link) {
    links[link.hash.slice(1)] = link;
  });
  var bar = document.querySelector(".links");
  var reading = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) {
      if (!entry.isIntersecting) return;
      Object.values(links).forEach(function (link) { link.classList.remove("here"); });
      var link = links[entry.target.id];
      link.classList.add("here");
      bar.scrollTo({ left: link.offsetLeft - bar.offsetLeft - bar.clientWidth / 2 + link.offsetWidth / 2 });
    });
  }, { rootMargin: "-20% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach(function (section) { reading.observe(section); });

  // Tooltips: one element, filled with text.
  var tip = make("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);

  function showTip(handler, event, item, value) {
    tip.replaceChildren();
    tip.hidden = value === null || value === undefined || value === "";
    if (tip.hidden) return;
    Object.entries(Object(value)).forEach(function (pair) {
      var line = make("div");
      line.append(make("span", "", pair[0]), make("span", "", String(pair[1])));
      tip.append(line);
    });
    var box = tip.getBoundingClientRect();
    var left = event.clientX + 14;
    if (left + box.width > window.innerWidth - 8) left = event.clientX - box.width - 14;
    var top = Math.min(event.clientY + 14, window.innerHeight - box.height - 8);
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = Math.max(8, top) + "px";
  }
  window.addEventListener("scroll", function () { tip.hidden = true; }, { passive: true });

  // Plots: drawn when they come near, so that the page is there at once; all of them for the printer.
  var options = {
    mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false,
    config: read(document.getElementById("plot-config")), tooltip: showTip
  };

  function draw(figure) {
    var place = figure.querySelector(".vega");
    if (place.dataset.drawn || !place.clientWidth) return Promise.resolve();
    place.dataset.drawn = "yes";
    return window.vegaEmbed(place, read(figure.querySelector(".spec")), options).then(function () {
      place.dataset.drawn = "done";
      place.style.minHeight = "0";
    }, function (error) {
      place.dataset.drawn = "failed";
      place.textContent = "This plot could not be drawn.";
      console.error(error);
    });
  }
  var near = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) {
      if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
    });
  }, { rootMargin: "600px" });
  var figures = Array.from(document.querySelectorAll("figure.plot"));
  figures.forEach(function (figure) {  // room is kept, so that nothing moves when plots come
    figure.querySelector(".vega").style.minHeight = read(figure.querySelector(".spec")).height + 36 + "px";
    near.observe(figure);
  });
  var later = window.requestIdleCallback || function (work) { return setTimeout(work, 50); };
  (function rest() {
    var figure = figures.shift();
    if (figure) later(function () { draw(figure).then(rest); });
  })();

  // The code tree: the first level stands in the page, what is below a branch is built when it is opened.
  var store = document.getElementById("tree-data");
  var below = store ? read(store) : [];

  function items(count) {
    return count.toLocaleString("en") + (count === 1 ? " item" : " items");
  }

  function fill(place, found) {
    (found.items || []).forEach(function (item) {
      var leaf = make("div", "leaf");
      if (item[0]) leaf.append(make("code", "", item[0]), " ");
      leaf.append(make("bdi", "", item[1]));
      place.append(leaf);
    });
    (found.branches || []).forEach(function (branch) {
      var details = make("details", "branch");
      var summary = make("summary");
      summary.append(make("code", "", String(branch[0])), " ", make("span", "count", items(branch[1])));
      var titles = make("span", "eg");
      branch[3].forEach(function (title, at) {
        if (at) titles.append(" · ");
        titles.append(make("bdi", "", title));
      });
      summary.append(" ", titles);
      details.append(summary);
      once(details, branch[2]);
      place.append(details);
    });
    if (found.more) {
      var hidden = found.hidden ? " in " + found.hidden.toLocaleString("en") + " smaller branches" : " more";
      place.append(make("div", "leaf note", "and " + items(found.more) + hidden));
    } else if (!found.items && !found.branches) {
      place.append(make("div", "leaf note", "not shown, the tree is too large"));
    }
  }

  function once(details, found) {
    details.addEventListener("toggle", function () {
      if (details.open) fill(details, found);
    }, { once: true });
  }
  document.querySelectorAll("#tree > details").forEach(function (details) {
    once(details, below[Number(details.dataset.branch)]);
  });
})();
