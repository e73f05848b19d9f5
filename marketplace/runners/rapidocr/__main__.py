from marketplace.runners.contract import run

run("marketplace.runners.rapidocr.task")
