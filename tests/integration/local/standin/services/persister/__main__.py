from services.play import play

play("persister")
